-- Leases: units that an instance holds in advance, and reports afterwards.
--
-- A lease is charged when it is given, dated at the last tick at which it can be spent. A report replaces that charge
-- by the spent units, each dated not before it was spent. So an admitted unit is charged from before its admission
-- until a window after it, and an unreported lease expires by itself.
--
-- A report has an id and counts once, however often it arrives. A lease is its own id. Units that Redis does not hold
-- yet leave a mark in the list of leases: an entry without units.
--
-- part   = id 12, expected epoch u32, proposed epoch u32, rate in units per ms f64, shed u40, wants u8, asks u16,
--          reports u8, each:
-- report = id 12, kind u8 (0 ends a lease, 1 adds units), entries u8, each: age in ms u32, units u40
-- answer = lost u8, binding u8, units u40, free u40, used u40, held u40, fits at u48, used then u40, life u32,
--          horizon u32, ask again in ms u32, ratio f64, epoch u32, time to live u32
local MOST_LEASES, SPARE, LONGEST = 512, 20, 2000

local id, proposed, rate, wants, is_lost

local shortest = M32
for i = 1, limit_count do shortest = min(shortest, limits[i][3]) end
local window_ms = shortest * bucket
-- Units must not be held for longer than a short window lasts.
local interval = max(min(interval, floor(window_ms / 4)), 1)
local spare_ms = max(interval, SPARE)
local longest = max(interval, min(floor(window_ms / 8), LONGEST))
-- The longest life of a lease, in ticks, which also caps reported ages.
local longest_life = floor((longest + spare_ms) / bucket) + 2

-- Charges leases that ended before a tick as spent: all, or the first; returns whether one existed.
local function fold(before, is_all)
  local i, done = 1, false
  while leases and leases[i] and leases[i][2] < before and (is_all or not done) do
    if leases[i][3] > 0 then
      local lease = remove(i)
      charge(lease[2], lease[3])
      done = true
    else
      i = i + 1
    end
  end
  return done
end

-- Reads an instance's reports. Returns where its asks begin, and the units that it spent and shed.
function report(part)
  local expected, shed_units, asks, reports, from
  id, expected, proposed, rate, shed_units, wants, asks, reports, from = unpack('<c12I4I4dI5I1I2I1', part)
  is_lost = expected > 0 and epoch ~= expected
  if is_lost then
    answers[#answers + 1] = string.rep('\0', 33 * asks)
    return #part + 1, 0, 0
  end
  -- One clock: ages count from the instant of the decision.
  local spent, decided_ms = 0, max(now_ms, now * bucket)
  for _ = 1, reports do
    local name, kind, entries, left, earliest, place
    name, kind, entries, from = unpack('<c12I1I1', part, from)
    left, earliest, place = 0, now - kept, find(name)
    if kind == 0 and place then
      local lease = remove(place)
      left, earliest = lease[3], lease[2] - longest_life
    elseif kind == 1 and not place then
      left = M40
      insert(name, now, 0, 0)
    end
    for _ = 1, entries do
      local age, units
      age, units, from = unpack('<I4I5', part, from)
      units = min(units, left)
      if units > 0 then
        charge(min(max(floor((decided_ms - age) / bucket), earliest), now), units)
        left, spent = left - units, spent + units
      end
    end
  end
  -- An instance that has not reported for some lives is gone, or may lose the rest.
  fold(now - 4 * longest_life, true)
  return from, spent, shed_units
end

-- The size and life of a lease, given the free units of all limits, and of the tightest with its capacity. Also when
-- units may return before the log frees any; 0 if no instance holds any.
local function share(free, free_of, capacity, smallest)
  local others, instances, units, horizon, count, back_at = 0, 1, 0, longest, 0, nil
  for i = 1, leases and #leases or 0 do
    local lease = leases[i]
    if lease[3] > 0 and lease[4] > 0 then count = count + 1 end
    if lease[3] > 0 and sub(lease[1], 1, 8) ~= sub(id, 1, 8) then
      back_at = back_at or lease[2]
      if lease[2] >= now and lease[4] > 0 then
        others, instances = others + lease[4], instances + 1
      end
    end
  end
  local again = back_at and max(back_at * bucket - spare_ms - now_ms, interval) or 0
  local spare = floor(smallest * tolerance / (1 + tolerance) / instances / 2)
  local function wish() return math.ceil(rate * horizon + math.sqrt(rate * horizon)) end
  -- Far below the limit, an instance syncs rarely; near it, idle units are missed elsewhere.
  while horizon > interval and 2 * (free_of - wish()) < capacity and wish() > spare do
    horizon = max(floor(horizon / 2), interval)
  end
  if rate * horizon >= 1 then
    -- A quarter stays for instances without a lease.
    units = max(min(wish(), math.ceil(2 * free * rate / (rate + others)), free - floor(free / 4)), 1)
  end
  return min(units, free), horizon, max(spare, 1), min(again, M32 - 1), count
end

-- Gives a lease, if it is wanted and worthwhile, and packs the reply.
function lend(cap, ratio)
  local free, smallest, free_of, capacity, used_of, held_of, binding = M40, M40, M40, 1, 0, 0, 1
  for i = 1, limit_count do
    local limit = limits[i]
    local _, _, live, lent = view(limit[4])
    local here = max(limit[cap] - live - lent, 0)
    if here * capacity < free_of * limit[cap] or i == 1 then
      free_of, capacity, used_of, held_of, binding = here, limit[cap], live + lent, lent, i
    end
    free, smallest = min(free, here), min(smallest, limit[cap])
  end
  rate = min(max(rate * ratio, 0), M40)
  local units, horizon, least, again, count = share(free, free_of, capacity, smallest)
  if ratio < 1 then horizon = min(horizon, interval) end
  local life_ms, place = horizon + spare_ms, find(id)
  if place then units = 0 end
  if is_lost or wants == 0 or free < least then units = 0 end
  if units > 0 and count >= MOST_LEASES and not fold(now, false) then units = 0 end
  if place then
    -- The call arrived twice; its lease must not live longer.
    units, life_ms = leases[place][3], min(life_ms, max(leases[place][2] * bucket - now_ms, 0))
  elseif units > 0 then
    insert(id, max(floor((now_ms + life_ms) / bucket), now), units, rate)
    free = free - units
  end
  local fits, used_then = 0, 0
  if free < least then
    for i = 1, limit_count do
      local limit = limits[i]
      local spent, first, live, lent = view(limit[4])
      local here, then_here =
        fits_at(limit[4], limit[cap], min(least, max(limit[cap], 1)), spent, first, live + lent)
      if here > fits then fits, used_then = here, then_here end
    end
  end
  if epoch == 0 and dirty then epoch = proposed end
  return pack(
    '<I1I1I5I5I5I5I6I5I4I4I4dI4I4', is_lost and 1 or 0, binding - 1, units, free, used_of, held_of, fits, used_then,
    life_ms, horizon, again, ratio, epoch, dirty and min(life(), M32 - 1) or 0
  )
end
