-- One key's window: the same algorithm as `engine/window.rs`, on one string, which `head.lua` describes.
--
-- A closure costs as much as reading a value, so there are few, and rare code is inline.
local NEVER, floor, max, min = 281474976710655, math.floor, math.max, math.min
-- The bounds of possible values, in ms: any time or span, and the rest of a lease's life.
local MOST_MS, LEASE_MS = 2 ^ 52, 3600000

local cells, span_count
cells, span_count, at = unpack('<I2I1', policy, at)
local span_at = at
at = at + 4 * span_count
-- A clock that steps back by more than this has left the shortest window.
local shortest = span_count > 0 and unpack('<I4', policy, span_at) or longest

-- The key's state; `now` is the tick of the decision, never before the open one. `leases` is nil without leases. Each
-- lease: 1 id, 2 last tick, 3 units, 4 rate.
local now, known, dirty, kept, open, total, base, merged, n, words, shed, leases, epoch

-- Reads a string. Returns nothing if the key does not exist, and `false` if it holds another type.
local function get(key)
  local value = redis.pcall('GET', key)
  if type(value) ~= 'table' then return value or nil end
  -- Any other error concerns the whole call, so the second attempt raises it.
  if sub(value.err, 1, 9) ~= 'WRONGTYPE' then call('GET', key) end
  return false
end

-- Whether this script can have written a string: its parts have the lengths in its header, and its times are possible.
local function is_ours(value)
  if #value < 36 then return false end
  local from, held, shed_bytes, lent, _, at, _, _, _, count = unpack('<I4I4I2I2I4I6I5I5I2I2', value)
  return #value == 36 + shed_bytes + 27 * lent + 9 * count and from > 0 and from * at < MOST_MS and from * held < MOST_MS
end

-- Reads a key and returns the packed part of the suppressed strategy. Returns nothing if the key holds another type.
--
-- A foreign string counts as no value: the next charge overwrites it, and sets a time to live.
local function load(key)
  local value = get(key)
  if value == false then return end
  dirty, kept, leases, epoch = false, longest, nil, 0
  if not value or not is_ours(value) then
    now, known, open, total, base, merged, n, words = clock, false, clock, 0, 0, 0, 0, ''
    return ''
  end
  local from, held, shed_bytes, lent
  known = true
  from, held, shed_bytes, lent, epoch, open, total, base, merged, n = unpack('<I4I4I2I2I4I6I5I5I2I2', value)
  local lent_at = 37 + shed_bytes
  words = sub(value, lent_at + 27 * lent)
  if held > longest then kept = held end
  local back = open - clock - shortest
  if from ~= bucket or back > 0 then
    -- If the bucket size changed, every stamp moves to the end of its bucket. If the server's clock stepped back by
    -- more than the shortest window, the history moves back until its newest unit is dated now. That only makes units
    -- younger. Without it, a shorter window would admit nothing until the clock catches up.
    local out, k, last = {}, 0, nil
    local function up(tick) return floor(((tick + 1) * from - 1) / bucket) end
    if from ~= bucket then
      kept, shed_bytes = max(floor((held * from - 1) / bucket) + 1, longest), 0
      back = up(open) - clock - shortest
    end
    back = back > 0 and back + shortest or 0
    for i = 0, n - 1 do
      local tick, cum = unpack('<I4I5', words, 9 * i + 1)
      tick = up(open - (open - tick) % M32) - back
      if tick ~= last then k = k + 1 end
      out[k], last = pack('<I4I5', tick % M32, cum), tick
    end
    if from ~= bucket then merged = k end
    words, n, open, dirty = table.concat(out), k, up(open) - back, back > 0
  end
  now = open > clock and open or clock
  for _ = 1, lent do
    local id, tick, units, rate, behind = unpack('<c12I6I5f', value, lent_at)
    if from ~= bucket then tick = floor(((tick + 1) * from - 1) / bucket) end
    if back > 0 then tick = tick - back end
    if now - tick <= kept and (tick - now) * bucket < LEASE_MS then
      if rate ~= rate then rate = 0 end
      leases = leases or {}
      leases[#leases + 1] = { id, tick, units, rate }
    end
    lent_at = behind
  end
  return shed_bytes > 0 and sub(value, 37, 36 + shed_bytes) or ''
end

-- Looks back `span` ticks: the expired total, the first live closed word, the live units, and the units of leases that
-- can still be spent, or were.
local function view(span)
  local idle, spent, first, lent = now - open, base, 0, 0
  if idle > span then
    spent, first = total, n
  elseif n > 0 and idle + (open - unpack('<I4', words)) % M32 > span then
    local high = n
    while first < high do
      local middle = floor((first + high) / 2)
      if idle + (open - unpack('<I4', words, 9 * middle + 1)) % M32 <= span then high = middle else first = middle + 1 end
    end
    if first > 0 then spent = unpack('<I5', words, 9 * first - 4) end
  end
  for i = 1, leases and #leases or 0 do
    if now - leases[i][2] <= span then lent = lent + leases[i][3] end
  end
  return spent, first, (total - spent) % M40, lent
end

-- The first tick at which `cost` fits under `capacity`, and the units held then; 0 if it fits now. `used` includes the
-- units of leases.
local function fits_at(span, capacity, cost, spent, first, used)
  if cost > capacity then return NEVER, 0 end
  local need = used + cost - capacity
  if need <= 0 then return 0, used end
  -- The first leases, in order of their ends, must expire, and from the log the units still missing.
  local best, left, gone, last, lease = NEVER, 0, 0, 0, 0
  repeat
    local low, high, tick, cum = first, n, last, spent
    if need > gone then
      while low < high do
        local middle = floor((low + high) / 2)
        if (unpack('<I5', words, 9 * middle + 5) - spent) % M40 >= need - gone then high = middle else low = middle + 1 end
      end
      tick, cum = open, total
      if low < n then tick, cum = unpack('<I4I5', words, 9 * low + 1) end
      tick = max(open - (open - tick) % M32, last)
    end
    local held = (cum - spent) % M40
    if held + gone >= need and tick < best then best, left = tick, used - held - gone end
    repeat lease = lease + 1 until not leases or lease > #leases or now - leases[lease][2] <= span
    if not leases or lease > #leases then break end
    gone, last = gone + leases[lease][3], leases[lease][2]
  until last >= best
  if leases then
    -- Units of the log and of leases expire together.
    local low, high, cum = first, n, spent
    while low < high do
      local middle = floor((low + high) / 2)
      if open - (open - unpack('<I4', words, 9 * middle + 1)) % M32 <= best then low = middle + 1 else high = middle end
    end
    if open <= best then cum = total elseif low > first then cum = unpack('<I5', words, 9 * low - 4) end
    left = used - (cum - spent) % M40
    for i = 1, #leases do
      if now - leases[i][2] <= span and leases[i][2] <= best then left = left - leases[i][3] end
    end
  end
  return best + span + 1, left
end

-- Moves the open bucket to `now`: closes the old one and drops expired ones.
local function roll()
  if now <= open then return end
  local spent, first, used = view(kept)
  if first > 0 then
    words, n, merged = sub(words, 9 * first + 1), n - first, max(merged - first, 0)
  end
  if used > 0 then
    if n >= most then
      -- Merges words in one cell into the newest of them; see `engine/mod.rs`.
      local out, k, stays, cell = {}, n + 1, nil, nil
      for i = n - 1, 0, -1 do
        local tick = open - (open - unpack('<I4', words, 9 * i + 1)) % M32
        if not cell or floor(tick / cell) ~= floor(stays / cell) then
          local reach = kept
          for s = span_count - 1, 0, -1 do
            local span = unpack('<I4', policy, span_at + 4 * s)
            if now - tick <= span then reach = span end
          end
          stays, cell, k = tick, floor((reach + cells - 1) / cells), k - 1
          out[k] = sub(words, 9 * i + 1, 9 * i + 9)
        end
      end
      words, n = table.concat(out, '', k, n), n + 1 - k
      merged = n
    end
    words, n = words .. pack('<I4I5', open % M32, total), n + 1
  end
  open, base = now, spent
end

-- The key's time to live in ms: as long as any unit in it counts. If plain decisions may follow, it lives for an eighth
-- of the span longer; see `plain.lua`.
local function life()
  local last, more = leases and leases[#leases][2] or now, 0
  if epoch == 0 then more = floor(kept / 8) + 1 end
  return (max(now, last) - clock + kept + 2 + more) * bucket
end

local function store(key, packed)
  local lent, count = '', 0
  if leases then
    local out = {}
    for i = 1, #leases do
      local lease = leases[i]
      out[i] = pack('<c12I6I5f', lease[1], lease[2], lease[3], lease[4])
    end
    lent, count = table.concat(out), #out
  end
  local header = pack('<I4I4I2I2I4I6I5I5I2I2', bucket, kept, #packed, count, epoch, open, total, base, merged, n)
  call('SET', key, header .. packed .. lent .. words, 'PX', life())
end
