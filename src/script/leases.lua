-- The list of leases, in the order of their ends. A reservation is a lease with the rate 0: one request holds its units.
local function find(name)
  for i = 1, leases and #leases or 0 do
    if leases[i][1] == name then return i end
  end
end

local function insert(name, tick, units, of_rate)
  local place = 1
  leases = leases or {}
  while place <= #leases and leases[place][2] <= tick do place = place + 1 end
  table.insert(leases, place, { name, tick, units, of_rate })
  known, dirty = true, true
end

local function remove(place)
  local lease = table.remove(leases, place)
  if #leases == 0 then leases = nil end
  dirty = true
  return lease
end
