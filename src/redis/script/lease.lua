-- Leases: units that an instance holds in advance, and accounts for afterwards.
--
-- A lease is charged when it is given, as of the last tick at which it may be spent. A report takes that charge away
-- and puts in its place what was spent, each unit as of a tick that is not before it was. So whatever is admitted is
-- charged from before that until a window after it, and a lease that is never heard of again ends by itself.
--
-- part   = id 12, expected epoch u32, proposed epoch u32, rate in units a ms f64, declined u40, wants u8, asks u16,
--          reports u8, each:
-- report = id 12, entries u8, each: age in ms u32, units u40; an id of zeros brings back what was lost
-- answer = lost u8, binding u8, units u40, free u40, used u40, fits at u48, life u32, horizon u32, instances u16,
--          ratio f64, epoch u32, time to live u32
local MOST_LEASES, SPARE, LONGEST = 512, 20, 60000
local report, lend

if interval > 0 then
  local id, proposed, rate, wants, is_lost
  local NOBODY = string.rep('\0', 12)

  -- The longest life of a lease, in ticks: what an age is believed at most.
  local shortest = M32
  for i = 1, limit_count do shortest = min(shortest, limits[i][3]) end
  local window_ms = shortest * bucket
  local half = min(floor(window_ms / 2), LONGEST)
  -- Of a short window units must not be held for longer than it is.
  local interval = max(min(interval, floor(window_ms / 4)), 1)
  local spare_ms = max(interval, SPARE)
  local longest_life = floor((max(half, 10 * interval) + spare_ms) / bucket) + 2

  -- Adds units as of a tick that is not in the future.
  local function charge(tick, units)
    if now - tick > kept then return end
    known, dirty = true, true
    if tick >= open then
      local at_last = now
      now = tick
      roll()
      now, total = at_last, (total + units) % M40
      return
    end
    local from, low, cum = n, nil, base
    while from > 0 do
      low, cum = unpack('<I4I5', words, 9 * from - 8)
      if open - (open - low) % M32 < tick then break end
      from, cum = from - 1, base
    end
    local out, next_low = {}, from < n and unpack('<I4', words, 9 * from + 1)
    local is_new = not next_low or next_low ~= tick % M32
    -- A full log takes them with its next bucket, which is later.
    if is_new and n < most then
      out[1] = pack('<I4I5', tick % M32, (cum + units) % M40)
      if from < merged then merged = merged + 1 end
    end
    for i = from, n - 1 do
      low, cum = unpack('<I4I5', words, 9 * i + 1)
      out[#out + 1] = pack('<I4I5', low, (cum + units) % M40)
    end
    words, n, total = sub(words, 1, 9 * from) .. table.concat(out), from + #out, (total + units) % M40
  end

  -- Settles what an instance reports; where its asks begin, the units that it spent, and those that it declined.
  function report(part)
    local expected, declined, asks, reports, from
    id, expected, proposed, rate, declined, wants, asks, reports, from = unpack('<c12I4I4dI5I1I2I1', part)
    is_lost = expected > 0 and epoch ~= expected
    if is_lost then
      answers[#answers + 1] = string.rep('\0', 33 * asks)
      return #part + 1, 0, 0
    end
    local spent = 0
    for _ = 1, reports do
      local old, entries, left, earliest
      old, entries, from = unpack('<c12I1', part, from)
      left, earliest = old == NOBODY and M40 or 0, now - kept
      for i = 1, leases and #leases or 0 do
        if leases[i][1] == old then
          local lease = table.remove(leases, i)
          if #leases == 0 then leases = nil end
          left, earliest, dirty = lease[3], lease[2] - longest_life, true
          break
        end
      end
      for _ = 1, entries do
        local age, units
        age, units, from = unpack('<I4I5', part, from)
        units = min(units, left)
        if units > 0 then
          charge(min(max(floor((max(now_ms, now * bucket) - age) / bucket), earliest), now), units)
          left, spent = left - units, spent + units
        end
      end
    end
    return from, spent, declined
  end

  -- How much to lend, and for how long, where so much is free of all limits; of the tightest so much, of this capacity.
  local function share(free, free_of, capacity, smallest)
    local others, instances, units, horizon = 0, 1, 0, interval
    for i = 1, leases and #leases or 0 do
      local lease = leases[i]
      if lease[2] >= now and sub(lease[1], 1, 8) ~= sub(id, 1, 8) then
        others, instances = others + lease[4], instances + 1
      end
    end
    local spare = floor(smallest * tolerance / (1 + tolerance) / instances / 2)
    local function wish() return math.ceil(rate * horizon + math.sqrt(rate * horizon)) end
    if rate * interval < 1 then
      -- Too slow for a lease to pay off, unless there is room enough to let one lie.
      if half > interval and 4 * free_of >= 3 * capacity and rate * half >= 1 then
        horizon = half
        -- Where so much is free, rather too much than to be asked again soon.
        units = min(math.ceil(4 * rate * half), floor(free / (8 * instances)))
      end
    else
      -- Far below the limit an instance need not come often; near it, units that lie idle are missed elsewhere.
      horizon = max(interval, min(10 * interval, floor(window_ms / 8)))
      while horizon > interval and 2 * (free_of - wish()) < capacity and wish() > spare do
        horizon = max(floor(horizon / 2), interval)
      end
      units = max(min(wish(), math.ceil(2 * free * rate / (rate + others))), 1)
    end
    return min(units, free), horizon, instances, max(spare, 1)
  end

  -- Gives a lease, if one is wanted and pays off, and packs the answer.
  function lend(cap, ratio)
    local free, smallest, free_of, capacity, used_of, binding, fits = M40, M40, M40, 1, 0, 1, 0
    for i = 1, limit_count do
      local limit = limits[i]
      local _, _, live, lent = view(limit[4])
      local here = max(limit[cap] - live - lent, 0)
      if here * capacity < free_of * limit[cap] or i == 1 then
        free_of, capacity, used_of, binding = here, limit[cap], live + lent, i
      end
      free, smallest = min(free, here), min(smallest, limit[cap])
    end
    rate = min(max(rate * ratio, 0), M40)
    local units, horizon, instances, least = share(free, free_of, capacity, smallest)
    if ratio < 1 then horizon = interval end
    local life_ms = horizon + spare_ms
    local twin
    for i = 1, leases and #leases or 0 do
      if leases[i][1] == id then twin = leases[i] end
    end
    if is_lost or wants == 0 or (leases and #leases >= MOST_LEASES) then units = 0 end
    if free < least then units = 0 end
    if twin then
      -- The call came twice; what it was given then lives no longer for that.
      units, life_ms = twin[3], min(life_ms, max(twin[2] * bucket - now_ms, 0))
    elseif units > 0 then
      local tick, place = max(floor((now_ms + life_ms) / bucket), now), 1
      leases = leases or {}
      while place <= #leases and leases[place][2] <= tick do place = place + 1 end
      table.insert(leases, place, { id, tick, units, rate })
      known, dirty, free = true, true, free - units
    end
    if free < least then
      for i = 1, limit_count do
        local limit = limits[i]
        local spent, first, live, lent = view(limit[4])
        local here = fits_at(limit[4], limit[cap], min(least, max(limit[cap], 1)), spent, first, live + lent)
        if here > fits then fits = here end
      end
    end
    if epoch == 0 and dirty then epoch = proposed end
    return pack(
      '<I1I1I5I5I5I6I4I4I2dI4I4', is_lost and 1 or 0, binding - 1, units, free, used_of, fits, life_ms, horizon,
      instances, ratio, epoch, dirty and min(life(), M32 - 1) or 0
    )
  end
end

