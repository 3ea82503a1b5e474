-- The suppressed strategy: the same algorithm as `engine/suppressed.rs`.
local FACTOR, SLOTS, STEEPEST, MAX32, MOST_OWED = 3, 16, 5, 4294967295, 4

local function answer(verdict, binding, violated, used, fits, used_then, ratio)
  answers[#answers + 1] = pack(RECORD, verdict, used, open, binding - 1, violated, fits, used_then, ratio)
end

-- Units certainly admitted within `window` ticks before the end of `now`.
local function certainly(window)
  if now - open >= window then return 0 end
  local _, first, used = view(window - 1)
  if first < n and first < merged then
    return (total - unpack('<I5', words, 9 * first + 5)) % M40
  end
  return used
end

local function slot_ticks(window) return floor((window + SLOTS - 1) / SLOTS) end

-- The known demand in a limit's window, without shed units.
local function new_demand(limit)
  local fast_ticks = limit[5]
  local fast = floor(now / fast_ticks)
  local _, _, current = view(now - fast * fast_ticks)
  local _, _, both = view(now - max(fast - 1, 0) * fast_ticks)
  return {
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    window = limit[3], slot = floor(now / slot_ticks(limit[3])), fast_ticks = fast_ticks, fast = fast,
    before = max(both - current, 0), offered = current, certain = 0, cut = 0,
  }
end

local function demand_of(window)
  for i = 1, #shed do
    if shed[i].window == window then return shed[i] end
  end
end

-- Drops demand that has left its window, and sums the shed units: those certainly in it, and a share of the slot that
-- the window cuts.
local function forget(demand)
  local ticks, oldest, fast = slot_ticks(demand.window), max(now + 1 - demand.window, 0), floor(now / demand.fast_ticks)
  local slot = floor(now / ticks)
  for gone = demand.slot + 1, min(slot, demand.slot + SLOTS + 1) do demand[gone % (SLOTS + 1) + 1] = 0 end
  if slot > demand.slot then demand.slot = slot end
  if fast > demand.fast then
    demand.before = fast == demand.fast + 1 and demand.offered or 0
    demand.offered, demand.fast = 0, fast
  end
  local certain, cut = 0, 0
  for s = max(demand.slot - SLOTS, 0), demand.slot do
    local from, units = s * ticks, demand[s % (SLOTS + 1) + 1]
    if from >= oldest then
      certain = certain + units
    else
      cut = cut + units * max(from + ticks - oldest, 0) / ticks
    end
  end
  demand.certain, demand.cut = certain, cut
end

-- Resumes the state at `now`, and adapts to changed limits. A demand dated ahead of `now` starts anew, because it would
-- not change until the clock catches up.
local is_resumed
local function resume()
  if is_resumed then return end
  is_resumed = true
  for i = shed and #shed or 0, 1, -1 do
    local demand = shed[i]
    local slot, fast = floor(now / slot_ticks(demand.window)), floor(now / demand.fast_ticks)
    if demand.slot > slot + 1 or demand.fast > fast + 1 then
      table.remove(shed, i)
      dirty = true
    else
      forget(demand)
    end
  end
  for i = shed and limit_count or 0, 1, -1 do
    local demand = demand_of(limits[i][3])
    if demand and demand.fast_ticks ~= limits[i][5] then
      local fresh = new_demand(limits[i])
      demand.fast_ticks, demand.fast = fresh.fast_ticks, fresh.fast
      demand.before, demand.offered = fresh.before, fresh.offered
    end
  end
end

-- Starts to shed, with a demand per limit.
local function start()
  local fresh = {}
  for i = 1, limit_count do
    if not shed or not demand_of(limits[i][3]) then fresh[#fresh + 1] = new_demand(limits[i]) end
  end
  shed = shed or { owed = 0, threshold = 1 }
  for i = 1, #fresh do
    if not demand_of(fresh[i].window) then shed[#shed + 1] = fresh[i] end
  end
end

local function record(cost, declined)
  if not shed then return end
  for i = 1, #shed do
    local demand = shed[i]
    demand.offered = demand.offered + cost
    if declined then
      -- The newest slot is completely in the window.
      local newest = demand.slot % (SLOTS + 1) + 1
      local units = min(demand[newest] + cost, MAX32)
      demand.certain, demand[newest] = demand.certain + units - demand[newest], units
    end
  end
  dirty = true
end

-- The demand per window, given an estimate of the units offered in the window.
local function per_window(demand, offered, cost)
  local into = max(now - demand.fast * demand.fast_ticks, 0) + 0.5
  local lately = demand.before * (1 - into / demand.fast_ticks) + demand.offered + cost
  local scale = demand.window / demand.fast_ticks
  local deviation = 2 * math.sqrt(lately * cost) * scale
  return min(max(offered, lately * scale - deviation), lately * scale + deviation)
end

-- The admit ratio for a request, the limit that sets it, and whether all offered units fit every limit.
local function ratio_for(cost)
  local ratio, tightest, all_fits = 1, 1, true
  for i = 1, limit_count do
    local limit = limits[i]
    local demand = shed and demand_of(limit[3])
    local certain, declined = 0, 0
    if demand then certain, declined = demand.certain, demand.certain + demand.cut end
    local sure = certainly(limit[3])
    if sure + certain + cost > limit[1] then
      all_fits = false
      local _, _, held = view(limit[4])
      local used = (held + sure) / 2
      local fill, room = used / limit[1], limit[2] / limit[1] - 1
      local feedback = 0
      if fill <= 1 then
        feedback = 2 - fill
      elseif room > 0 then
        feedback = max(1 - (fill - 1) * min(1 / room, STEEPEST), 0)
      end
      local here = limit[1] / per_window(demand or new_demand(limit), used + declined + cost, cost) * feedback
      if here < ratio then ratio, tightest = here, i end
    end
  end
  return ratio, tightest, all_fits
end

local function draw(ratio, random)
  shed.owed = shed.owed + ratio
  if shed.owed < shed.threshold then return false end
  shed.owed, shed.threshold = shed.owed - 1, 0.5 + random / MAX32
  return true
end

local function suppressed(cost, random)
  local violated, fits, used_then, used, binding, tight = survey(cost, 2)
  if violated > 0 then
    if cost > 0 and fits < NEVER then
      resume()
      local ratio = ratio_for(cost)
      start()
      shed.owed = min(shed.owed + ratio, max(shed.owed, MOST_OWED))
      record(cost, true)
    end
    return answer(FULL, binding, violated, used, fits, used_then, 0)
  end
  if cost == 0 then return answer(ALLOWED, binding, 0, used, 0, used, 1) end
  resume()
  local ratio, tightest, all_fits = ratio_for(cost)
  if ratio >= 1 then
    record(cost, false)
    return admit(all_fits and ALLOWED or PASSED, binding, used, cost, 1, tight)
  end
  start()
  local passes = draw(ratio, random)
  record(cost, not passes)
  if passes then return admit(PASSED, binding, used, cost, ratio, tight) end
  local limit = limits[tightest]
  local spent, first, live, lent = view(limit[4])
  local held = live + lent
  local room_at = fits_at(limit[4], max(limit[1], cost), cost, spent, first, held)
  answer(SHED, tightest, 2 ^ (tightest - 1), held, room_at, held, ratio)
end

local function factor()
  resume()
  local violated = survey(1, 2)
  local ratio = violated > 0 and 0 or (ratio_for(1))
  answer(ALLOWED, 1, 0, 0, 0, 0, ratio)
end

local function is_over()
  for i = 1, #shed do
    if floor(now / slot_ticks(shed[i].window)) <= shed[i].slot + SLOTS then return false end
  end
  return true
end

-- shed   = owed f64, threshold f64, demands u8
-- demand = window u32, slot u48, fast ticks u32, fast u48, offered before and now as doubles, declined 17 of u32
local DECLINED = '<I4I4I4I4I4I4I4I4I4I4I4I4I4I4I4I4I4'

local function is_count(number) return number >= 0 and number < math.huge end

-- Unpacks the state; the debt is at least -1. Returns nothing if this script cannot have written it.
local function from_shed(packed)
  if #packed < 17 then return end
  local owed, threshold, count, at = unpack('<ddI1', packed)
  if #packed ~= 17 + (36 + 4 * (SLOTS + 1)) * count or not is_count(owed + 1) or not is_count(threshold) then return end
  local state = { owed = owed, threshold = threshold }
  for i = 1, count do
    local demand = { unpack(DECLINED, packed, at + 36) }
    demand.window, demand.slot, demand.fast_ticks, demand.fast, demand.before, demand.offered =
      unpack('<I4I6I4I6dd', packed, at)
    if demand.window == 0 or demand.fast_ticks == 0 then return end
    if not is_count(demand.before) or not is_count(demand.offered) then return end
    state[i], at = demand, at + 36 + 4 * (SLOTS + 1)
  end
  return state
end

local function to_shed()
  if not shed then return '' end
  local out = { pack('<ddI1', shed.owed, shed.threshold, #shed) }
  for i = 1, #shed do
    local d = shed[i]
    out[2 * i] = pack('<I4I6I4I6dd', d.window, d.slot, d.fast_ticks, d.fast, d.before, d.offered)
    out[2 * i + 1] = pack(
      DECLINED, d[1], d[2], d[3], d[4], d[5], d[6], d[7], d[8], d[9], d[10], d[11], d[12], d[13], d[14], d[15], d[16], d[17]
    )
  end
  return table.concat(out)
end

local function suppressed_key(key, asks)
  shed = shed ~= '' and from_shed(shed) or nil
  if shed and is_over() then shed, dirty = nil, true end
  is_resumed = false
  local first = 1
  if interval > 0 then
    local spent, declined
    first, spent, declined = report(asks)
    resume()
    if declined > 0 then
      start()
      record(declined, true)
    end
    record(spent, false)
    if not known then shed, dirty = nil, false end
  end
  for ask = first, #asks, 9 do
    if mode == FACTOR then factor() else suppressed(unpack('<I5I4', asks, ask)) end
    -- A rejection does not keep an empty key.
    if not known then shed, dirty = nil, false end
  end
  if interval > 0 then
    local violated = survey(1, 2)
    local ratio = violated > 0 and 0 or ratio_for(1)
    answers[#answers + 1] = lend(ratio < 1 and 2 or 1, ratio)
  end
  if dirty and mode ~= FACTOR then store(key, to_shed()) end
end

return decide_rest(suppressed_key)
