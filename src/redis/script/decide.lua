-- Decisions: the same algorithm as `engine/absolute.rs` and `engine/suppressed.rs`.
--
-- ARGV[1] goes on with: mode u8, limits u8, each limit: capacity u40, hard u40, window u32, span u32, fast u32
-- ARGV[3..] = for each key its asks: cost u40, random u32
-- Answers now in ms as a double, then for each ask: verdict u8, binding u8, violated u8, used u40, newest u48,
-- fits at u48, used then u40, ratio as a double.
local LOOK, SUPPRESSED, FACTOR = 1, 2, 3
local ALLOWED, REJECTED, PASSED, SHED, FULL = 0, 1, 2, 3, 4
local SLOTS, STEEPEST, MAX32 = 16, 5, 4294967295

local mode, limit_count
mode, limit_count, at = unpack('<I1I1', ARGV[1], at)
local limits = {}
for i = 1, limit_count do
  local capacity, hard, window, span, fast
  capacity, hard, window, span, fast, at = unpack('<I5I5I4I4I4', ARGV[1], at)
  limits[i] = { capacity = capacity, hard = hard, window = window, span = span, fast = fast }
end

local answers = { pack('<d', now_ms) }
local function answer(verdict, binding, violated, used, newest, fits, used_then, ratio)
  local record = pack('<I1I1I1I5I6I6I5d', verdict, binding, violated, used, newest, fits, used_then, ratio)
  answers[#answers + 1] = record
end

-- Looks at every limit: which refuse, when the cost fits, what is held then and now, and which limit binds.
local function survey(cost, cap)
  local violated, fits, used_then, used_of, binding, bit = 0, 0, 0, 0, 1, 1
  for i = 1, limit_count do
    local limit = limits[i]
    local spent, first, used = view(limit.span)
    if used + cost > limit[cap] then
      local fits_here, then_here = fits_at(limit.span, limit[cap], cost, spent, first, used)
      if fits_here > fits then fits, used_then, used_of, binding = fits_here, then_here, used, i end
      violated = violated + bit
    elseif violated == 0 then
      local other = limits[binding]
      local free, free_of = max(limit.capacity - used - cost, 0), max(other.capacity - used_of - cost, 0)
      if i == 1 or free * other.capacity < free_of * limit.capacity then used_of, binding = used, i end
    end
    bit = bit * 2
  end
  return violated, fits, used_then, used_of, binding
end

-- Charges a cost that fits all limits; the first tick at which as much fits once more.
local function admit(cost)
  if cost == 0 then return 0 end
  roll()
  total, known, dirty = (total + cost) % M40, true, true
  local fits = 0
  for i = 1, limit_count do
    local limit = limits[i]
    local fits_here = fits_at(limit.span, limit.capacity, cost, view(limit.span))
    fits = max(fits, fits_here)
  end
  return fits
end

-- Answers an admission, after charging it.
local function admitted(verdict, binding, used, cost, ratio)
  local fits = admit(cost)
  answer(verdict, binding - 1, 0, used + cost, open, fits, used + cost, ratio)
end

local function absolute(cost, charge)
  local violated, fits, used_then, used, binding = survey(cost, 'capacity')
  if violated > 0 then
    answer(REJECTED, binding - 1, violated, used, open, fits, used_then, 0)
  else
    admitted(ALLOWED, binding, used, charge and cost or 0, 1)
  end
end

-- Units that were certainly admitted within `window` ticks before the end of `now`.
local function certainly(window)
  if now - open >= window then return 0 end
  local _, first, used = view(window - 1)
  if first < n and first < merged then
    local _, cum = word(first)
    return (total - cum) % M40
  end
  return used
end

local function slot_ticks(demand) return floor((demand.window + SLOTS - 1) / SLOTS) end

local function new_demand(limit)
  local fast = floor(now / limit.fast)
  local _, _, current = view(now - fast * limit.fast)
  local _, _, both = view(now - max(fast - 1, 0) * limit.fast)
  local demand = { window = limit.window, fast_ticks = limit.fast, fast = fast, before = max(both - current, 0), offered = current }
  demand.slot = floor(now / slot_ticks(demand))
  for i = 1, SLOTS + 1 do demand[i] = 0 end
  return demand
end

local function demand_of(window)
  for _, demand in ipairs(shed or {}) do
    if demand.window == window then return demand end
  end
end

-- Lets the demand forget what has left its window, and follow limits that have changed.
local function forget()
  for _, demand in ipairs(shed or {}) do
    local slot, fast = floor(now / slot_ticks(demand)), floor(now / demand.fast_ticks)
    for gone = demand.slot + 1, min(slot, demand.slot + SLOTS + 1) do demand[gone % (SLOTS + 1) + 1] = 0 end
    demand.slot = max(demand.slot, slot)
    if fast > demand.fast then
      demand.before = fast == demand.fast + 1 and demand.offered or 0
      demand.offered, demand.fast = 0, fast
    end
    for i = 1, limit_count do
      if limits[i].window == demand.window then
        if limits[i].fast ~= demand.fast_ticks then
          local fresh = new_demand(limits[i])
          demand.fast_ticks, demand.fast = fresh.fast_ticks, fresh.fast
          demand.before, demand.offered = fresh.before, fresh.offered
        end
        break
      end
    end
  end
end

-- Starts to shed: a demand for every limit.
local function start()
  local fresh = {}
  for i = 1, limit_count do
    if not demand_of(limits[i].window) then fresh[#fresh + 1] = new_demand(limits[i]) end
  end
  shed = shed or { owed = 0, threshold = 1 }
  for _, demand in ipairs(fresh) do
    if not demand_of(demand.window) then shed[#shed + 1] = demand end
  end
end

local function record(cost, declined)
  for _, demand in ipairs(shed or {}) do
    demand.offered = demand.offered + cost
    if declined then
      local newest = demand.slot % (SLOTS + 1) + 1
      demand[newest] = min(demand[newest] + cost, MAX32)
    end
  end
  dirty = dirty or shed ~= nil
end

-- Declined units in the window: those certainly in it, and an estimate with a share of the slot that it cuts.
local function declined_in(demand)
  local ticks, oldest, certain, cut = slot_ticks(demand), max(now + 1 - demand.window, 0), 0, 0
  for slot = max(demand.slot - SLOTS, 0), demand.slot do
    local from, units = slot * ticks, demand[slot % (SLOTS + 1) + 1]
    if from >= oldest then
      certain = certain + units
    else
      cut = cut + units * max(from + ticks - oldest, 0) / ticks
    end
  end
  return certain, certain + cut
end

-- The demand per window, given an estimate of what the window was offered.
local function per_window(demand, offered, cost)
  local into = max(now - demand.fast * demand.fast_ticks, 0) + 0.5
  local lately = demand.before * (1 - into / demand.fast_ticks) + demand.offered + cost
  local scale = demand.window / demand.fast_ticks
  local deviation = 2 * math.sqrt(lately * cost) * scale
  return min(max(offered, lately * scale - deviation), lately * scale + deviation)
end

-- The admit ratio for a request, and the limit that asks for it.
local function ratio_for(cost)
  local ratio, tightest = 1, 1
  for i = 1, limit_count do
    local limit = limits[i]
    local demand, certain, declined = demand_of(limit.window), 0, 0
    if demand then certain, declined = declined_in(demand) end
    local sure = certainly(limit.window)
    if sure + certain + cost > limit.capacity then
      local _, _, held = view(limit.span)
      local used = (held + sure) / 2
      local fill, room = used / limit.capacity, limit.hard / limit.capacity - 1
      local feedback = 0
      if fill <= 1 then
        feedback = 2 - fill
      elseif room > 0 then
        feedback = max(1 - (fill - 1) * min(1 / room, STEEPEST), 0)
      end
      local here = limit.capacity / per_window(demand or new_demand(limit), used + declined + cost, cost) * feedback
      if here < ratio then ratio, tightest = here, i end
    end
  end
  return ratio, tightest
end

local function draw(ratio, random)
  shed.owed = shed.owed + ratio
  if shed.owed < shed.threshold then return false end
  shed.owed, shed.threshold = shed.owed - 1, 0.5 + random / MAX32
  return true
end

local function suppressed(cost, random)
  local violated, fits, used_then, used, binding = survey(cost, 'hard')
  if violated > 0 then
    if cost > 0 and fits < NEVER then
      forget()
      start()
      record(cost, true)
    end
    return answer(FULL, binding - 1, violated, used, open, fits, used_then, 0)
  end
  if cost == 0 then return answer(ALLOWED, binding - 1, 0, used, open, 0, used, 1) end
  forget()
  local ratio, tightest = ratio_for(cost)
  if ratio >= 1 then
    record(cost, false)
    return admitted(ALLOWED, binding, used, cost, 1)
  end
  start()
  local passes = draw(ratio, random)
  record(cost, not passes)
  if passes then return admitted(PASSED, binding, used, cost, ratio) end
  local limit = limits[tightest]
  local spent, first, held = view(limit.span)
  local room_at = fits_at(limit.span, max(limit.capacity, cost), cost, spent, first, held)
  answer(SHED, tightest - 1, 2 ^ (tightest - 1), held, open, room_at, held, ratio)
end

local function factor()
  forget()
  local violated = survey(1, 'hard')
  local ratio = violated > 0 and 0 or ratio_for(1)
  answer(ALLOWED, 0, 0, 0, open, 0, 0, ratio)
end

local function is_over()
  for _, demand in ipairs(shed) do
    if floor(now / slot_ticks(demand)) <= demand.slot + SLOTS then return false end
  end
  return true
end

-- shed   = owed f64, threshold f64, demands u8
-- demand = window u32, slot u48, fast ticks u32, fast u48, offered before and now as doubles, declined 17 of u32
local DECLINED = string.rep('I4', SLOTS + 1)

local function from_shed(packed)
  local owed, threshold, count, at = unpack('<ddI1', packed)
  local state = { owed = owed, threshold = threshold }
  for i = 1, count do
    local demand = { unpack('<' .. DECLINED, packed, at + 36) }
    demand.window, demand.slot, demand.fast_ticks, demand.fast, demand.before, demand.offered =
      unpack('<I4I6I4I6dd', packed, at)
    state[i], at = demand, at + 36 + 4 * (SLOTS + 1)
  end
  return state
end

local function to_shed()
  if not shed then return '' end
  local out = { pack('<ddI1', shed.owed, shed.threshold, #shed) }
  for _, d in ipairs(shed) do
    out[#out + 1] = pack('<I4I6I4I6dd', d.window, d.slot, d.fast_ticks, d.fast, d.before, d.offered)
    for i = 1, SLOTS + 1 do out[#out + 1] = pack('<I4', d[i]) end
  end
  return table.concat(out)
end

for k = 1, #KEYS do
  load(KEYS[k], from_shed)
  if shed and is_over() then shed = nil end
  local asks = ARGV[k + 2]
  for ask = 1, #asks, 9 do
    local cost, random = unpack('<I5I4', asks, ask)
    if mode == SUPPRESSED then
      suppressed(cost, random)
    elseif mode == FACTOR then
      factor()
    else
      absolute(cost, mode ~= LOOK)
    end
    -- A key that holds nothing is not kept for its refusals.
    if not known then shed, dirty = nil, false end
  end
  if dirty then store(KEYS[k], to_shed()) end
end
return table.concat(answers)
