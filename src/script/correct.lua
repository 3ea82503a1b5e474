-- Corrections: the same as `Window::set` and `Window::refund`, deletion, and reservations.
--
-- A reservation takes the units of a decision out of the log and into a lease. Its end replaces the lease by the spent
-- units, each dated not before it was spent. Without an end it counts as spent at the last tick at which it may be.
--
-- ARGV[1] continues with: operation u8, span u32, then
--   set:    comparator u8, operand u48, count u40, units to keep u8, age in ticks u32
--   refund: stamp u48, units u40
--   charge: entries
--   hold:   id 12, life in ms u32, stamp u48, units u40
--   commit: id 12, entries
--   renew:  units to charge u40, entries u16, each: stamp u48, units to take u40; in the order of the stamps
-- entries = number u8, each: age in ms u32, units u40
-- Reply: whether it was done or the key was known u8, units live before u40, and after u40 (after a hold, the units
-- held), and the newest tick u48.
local SET, REFUND, CHARGE, HOLD, COMMIT, RENEW = 0, 1, 3, 4, 5, 6
local MOST_HOLDS = 1024
local EQUAL, LESS, GREATER, UNEQUAL = 0, 1, 2, 3
local REPLACE, NEWEST = 0, 1

local operation, span
operation, span, at = unpack('<I1I4', policy, at)

-- The age of a closed word, relative to the open tick, and its running total.
local function word(i)
  local tick, cum = unpack('<I4I5', words, 9 * i + 1)
  return (open - tick) % M32, cum
end

-- Adds `change` to the running total of every closed word from `first` on.
local function retotal(first, change)
  local out = {}
  for i = first, n - 1 do
    local tick, cum = unpack('<I4I5', words, 9 * i + 1)
    out[#out + 1] = pack('<I4I5', tick, change(cum))
  end
  words = sub(words, 1, 9 * first) .. table.concat(out)
end

local function used()
  local _, _, live, lent = view(span)
  return live + lent
end

local function matches(comparator, operand, units)
  if comparator == EQUAL then return units == operand end
  if comparator == LESS then return units < operand end
  if comparator == GREATER then return units > operand end
  return comparator ~= UNEQUAL or units ~= operand
end

-- The first closed word from `first` on for which `holds` is true, if it stays true from some word on.
local function first_where(first, holds)
  while first < n and not holds(word(first)) do first = first + 1 end
  return first
end

-- Leases that can still be spent stay, whatever the new total. So do the marks of reports: each counts once.
local function keep_leases()
  local stay = {}
  for i = 1, leases and #leases or 0 do
    if leases[i][2] >= now or leases[i][3] == 0 then stay[#stay + 1] = leases[i] end
  end
  leases = #stay > 0 and stay or nil
end

local function set(count, which, age)
  roll()
  if which == REPLACE then keep_leases() end
  local spent, first, live, lent = view(span)
  count = max(count - lent, 0)
  if which == REPLACE then
    words, n, merged, base, open = '', 0, 0, total, max(now - age, 0)
    total = (total + count) % M40
  elseif which == NEWEST then
    if count >= live then
      total = (total + count - live) % M40
      return
    end
    local gone = live - count
    local stays = first_where(first, function(_, cum) return (cum - spent) % M40 > gone end)
    words, n, merged, base = sub(words, 9 * stays + 1), n - stays, max(merged - stays, 0), (spent + gone) % M40
  else
    retotal(first, function(cum)
      local held = (cum - spent) % M40
      -- An emptied bucket must not get new units, because they would expire with it.
      if held > 0 then held = held + max(count - live, 0) end
      return (spent + min(held, count)) % M40
    end)
    total = (spent + count) % M40
  end
end

-- Takes back units with a stamp; returns their number.
local function refund(stamp, cost)
  if stamp > open or now - stamp > kept then return 0 end
  local first = first_where(0, function(age) return open - age >= stamp end)
  local age, cum = 0, total
  if first < n then age, cum = word(first) end
  -- A later bucket has units of that stamp only if they were merged into it.
  if open - age ~= stamp and first >= merged then return 0 end
  local _, before = 0, base
  if first > 0 then _, before = word(first - 1) end
  local units = min(cost, (cum - before) % M40)
  retotal(first, function(of) return (of - units) % M40 end)
  total, dirty = (total - units) % M40, true
  return units
end

-- Charges the entries of a message from a place on, and at most so many units.
local function charge_entries(from, left)
  local entries
  entries, from = unpack('<I1', policy, from)
  for _ = 1, entries do
    local age, units
    age, units, from = unpack('<I4I5', policy, from)
    units = min(units, left)
    if units > 0 then charge(min(floor((max(now_ms, now * bucket) - age) / bucket), now), units) end
    left = left - units
  end
end

-- Moves units with a stamp into a lease; returns the units that it holds.
local function hold(name, life_ms, stamp, units)
  local place = find(name)
  if place then return leases[place][3] end
  units = refund(stamp, units)
  if units > 0 and (not leases or #leases < MOST_HOLDS) then
    insert(name, max(floor((now_ms + life_ms) / bucket), now), units, 0)
    return units
  end
  return 0
end

-- Deletes a key that is empty, unless instances know its epoch.
local function delete_empty()
  local _, _, live = view(kept)
  if dirty and live == 0 and not leases and epoch == 0 then
    call('DEL', KEYS[1])
    dirty = false
  end
end

-- Takes units from their ticks, each as `refund` does, and charges units now. It charges them whatever it found, because
-- their permits are held. So a lost value, a correction or a lost reply never makes the count too low.
local function renew(units, count, from)
  local stamp, wanted, gone, before, out = nil, 0, 0, base, {}
  local function next_entry()
    if count == 0 then stamp = nil return end
    count = count - 1
    stamp, wanted, from = unpack('<I6I5', policy, from)
  end
  next_entry()
  for i = 0, n do
    local low, tick, cum = nil, open, total
    if i < n then
      low, cum = unpack('<I4I5', words, 9 * i + 1)
      tick = open - (open - low) % M32
    end
    local left = (cum - before) % M40
    while stamp and stamp <= tick do
      if now - stamp <= kept and (stamp == tick or i < merged) then
        local taken = min(wanted, left)
        left, gone = left - taken, gone + taken
      end
      next_entry()
    end
    before = cum
    if low then out[#out + 1] = pack('<I4I5', low, (cum - gone) % M40) end
  end
  words, total = table.concat(out), (total - gone) % M40
  roll()
  total, known, dirty = (total + units) % M40, true, true
end

shed = load(KEYS[1])
if not shed then return redis.error_reply('WRONGTYPE the key of a limit holds a value of another type') end
local before, done, held = used(), known, nil
if operation == SET then
  local comparator, operand, count, which, age = unpack('<I1I6I5I1I4', policy, at)
  done = matches(comparator, operand, before)
  if done then
    -- A lower total, or 0, also ends the shedding.
    if count < before or count == 0 then shed = '' end
    set(count, which, age)
    dirty = known or count > 0
    delete_empty()
  end
elseif operation == CHARGE then
  charge_entries(at, M40)
elseif operation == HOLD then
  held = known and hold(unpack('<c12I4I6I5', policy, at)) or 0
elseif operation == COMMIT then
  local name, entries_at = unpack('<c12', policy, at)
  local place = find(name)
  done = place ~= nil
  if place then
    charge_entries(entries_at, remove(place)[3])
    delete_empty()
  end
elseif operation == RENEW then
  local units, entries, from = unpack('<I5I2', policy, at)
  renew(units, entries, from)
elseif operation == REFUND then
  if known then refund(unpack('<I6I5', policy, at)) end
elseif known then
  -- A key emptied before is unknown, except for its epoch.
  done = epoch == 0 or before > 0
  keep_leases()
  if epoch == 0 then
    call('DEL', KEYS[1])
  else
    -- The value stays, empty. Otherwise instances would assume a loss and resubmit their admissions.
    words, n, merged, base, open, shed, dirty = '', 0, 0, total, now, '', true
  end
end
if dirty then store(KEYS[1], shed) end
return pack('<I1I5I5I6', done and 1 or 0, before, held or used(), open)
