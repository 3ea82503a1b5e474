-- Leases: units that an instance holds in advance, and accounts for afterwards.
--
-- A lease is charged when it is given, as of the last tick at which it may be spent. A report takes that charge away
-- and puts in its place what was spent, each unit as of a tick that is not before it was. So whatever is admitted is
-- charged from before that until a window after it, and a lease that is never heard of again ends by itself.
--
-- A report has a name and counts once, however often it arrives. A lease is its own name. Units that Redis does not
-- hold yet leave a mark in the list of leases: an entry without units.
--
-- part   = id 12, expected epoch u32, proposed epoch u32, rate in units a ms f64, shed u40, wants u8, asks u16,
--          reports u8, each:
-- report = id 12, kind u8 (0 settles a lease, 1 adds units), entries u8, each: age in ms u32, units u40
-- answer = lost u8, binding u8, units u40, free u40, used u40, held u40, fits at u48, used then u40, life u32,
--          horizon u32, ask again in ms u32, ratio f64, epoch u32, time to live u32
local MOST_LEASES, SPARE, LONGEST = 512, 20, 2000
local report, lend

if interval > 0 then
  local id, proposed, rate, wants, is_lost

  local shortest = M32
  for i = 1, limit_count do shortest = min(shortest, limits[i][3]) end
  local window_ms = shortest * bucket
  -- Of a short window units must not be held for longer than it is.
  local interval = max(min(interval, floor(window_ms / 4)), 1)
  local spare_ms = max(interval, SPARE)
  local longest = max(interval, min(10 * interval, floor(window_ms / 8), LONGEST))
  -- The longest life of a lease, in ticks: what an age is believed at most.
  local longest_life = floor((longest + spare_ms) / bucket) + 2

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

  -- Charges leases that ended before a tick as if they were spent: all, or the first; whether there was one.
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

  -- Takes up what an instance reports; where its asks begin, the units that it spent, and those that it shed.
  function report(part)
    local expected, shed_units, asks, reports, from
    id, expected, proposed, rate, shed_units, wants, asks, reports, from = unpack('<c12I4I4dI5I1I2I1', part)
    is_lost = expected > 0 and epoch ~= expected
    if is_lost then
      answers[#answers + 1] = string.rep('\0', 33 * asks)
      return #part + 1, 0, 0
    end
    -- One clock: an age counts from the instant at which the call is decided.
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
    -- Whoever has not reported for some lives does not come back, or is late enough to do without.
    fold(now - 4 * longest_life, true)
    return from, spent, shed_units
  end

  -- How much to lend, and for how long, where so much is free of all limits; of the tightest so much, of this
  -- capacity. And when units may come back before the log frees any; 0 where nobody holds any.
  local function share(free, free_of, capacity, smallest)
    local others, instances, units, horizon, count, back_at = 0, 1, 0, longest, 0, nil
    for i = 1, leases and #leases or 0 do
      local lease = leases[i]
      if lease[3] > 0 then count = count + 1 end
      if lease[3] > 0 and sub(lease[1], 1, 8) ~= sub(id, 1, 8) then
        back_at = back_at or lease[2]
        if lease[2] >= now then
          others, instances = others + lease[4], instances + 1
        end
      end
    end
    local again = back_at and max(back_at * bucket - spare_ms - now_ms, interval) or 0
    local spare = floor(smallest * tolerance / (1 + tolerance) / instances / 2)
    local function wish() return math.ceil(rate * horizon + math.sqrt(rate * horizon)) end
    -- Far below the limit an instance need not come often; near it, units that lie idle are missed elsewhere.
    while horizon > interval and 2 * (free_of - wish()) < capacity and wish() > spare do
      horizon = max(floor(horizon / 2), interval)
    end
    if rate * horizon >= 1 then
      -- A quarter stays for those who hold nothing.
      units = max(min(wish(), math.ceil(2 * free * rate / (rate + others)), free - floor(free / 4)), 1)
    end
    return min(units, free), horizon, max(spare, 1), min(again, M32 - 1), count
  end

  -- Gives a lease, if one is wanted and pays off, and packs the answer.
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
      -- The call came twice; what it was given then lives no longer for that.
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
end
