-- One key's window: the same algorithm as `engine/window.rs`, on one string.
--
-- value  = header, shed, words
-- header = bucket ms u32, span kept u32, open tick u48, total u40, base u40, merged u16, words u16, bytes of shed u16
-- word   = low bits of the tick u32, running total u40; oldest first
--
-- ARGV[1] = bucket ms u32, most words u16, cells in a span u16, spans u8, each span u32 rising, then the call's own
-- ARGV[2] = the time in ms, or empty for the server's
local M32, M40, NEVER = 4294967296, 1099511627776, 281474976710655
local pack, unpack, sub, floor = struct.pack, struct.unpack, string.sub, math.floor
local max, min = math.max, math.min

local bucket, most, cells, span_count, at = unpack('<I4I2I2I1', ARGV[1])
local spans = {}
for i = 1, span_count do
  spans[i], at = unpack('<I4', ARGV[1], at)
end

local now_ms = tonumber(ARGV[2])
if not now_ms then
  local time = redis.call('TIME')
  now_ms = time[1] * 1000 + floor(time[2] / 1000)
end
local clock = floor(now_ms / bucket)

-- The key's state; `now` is the tick at which it is decided on, never before the open one.
local now, known, dirty, kept, open, total, base, merged, n, words, shed

-- The age of a closed word, relative to the open tick, and its running total.
local function word(i)
  local tick, cum = unpack('<I4I5', words, 9 * i + 1)
  return (open - tick) % M32, cum
end

-- Rewrites every closed word's tick and total; of words that come to share a tick the newest stays.
local function rewrite(change)
  local out, k, last = {}, 0, nil
  for i = 0, n - 1 do
    local age, cum = word(i)
    local tick
    tick, cum = change(open - age, cum, i)
    if tick ~= last then k = k + 1 end
    out[k], last = pack('<I4I5', tick % M32, cum), tick
  end
  words, n = table.concat(out), k
end

-- Reads a value that was written with buckets of another size: every stamp moves up to the end of its bucket.
local function convert(from)
  local function up(tick) return floor(((tick + 1) * from - 1) / bucket) end
  local last = up(open)
  rewrite(function(tick, cum) return up(tick), cum end)
  open, kept, merged = last, max(floor((kept * from - 1) / bucket) + 1, spans[span_count]), n
end

-- The server's clock went back by more than a window: takes the newest unit to be of now.
local function rebase()
  local back = open - clock
  rewrite(function(tick, cum) return tick - back, cum end)
  open, dirty = clock, true
end

-- Reads a key. `from_shed` reads the suppressed strategy's part, or gives nothing.
local function load(key, from_shed)
  local value = redis.call('GET', key)
  known, dirty, kept = value and true or false, false, spans[span_count]
  if not value then
    now, open, total, base, merged, n, words, shed = clock, clock, 0, 0, 0, 0, '', nil
    return
  end
  local from, held, shed_bytes
  from, held, open, total, base, merged, n, shed_bytes = unpack('<I4I4I6I5I5I2I2I2', value)
  kept, words = max(kept, held), sub(value, 31 + shed_bytes)
  if from ~= bucket then
    kept = held
    convert(from)
    shed_bytes = 0
  end
  if open > clock + kept then rebase() end
  now = max(clock, open)
  shed = sub(value, 31, 30 + shed_bytes)
  shed = shed ~= '' and from_shed(shed) or nil
end

-- Looks back `span` ticks: the total that has expired, the first live closed word, and the units that are live.
local function view(span)
  local idle = now - open
  if idle > span then return total, n, 0 end
  local spent, first = base, 0
  if n > 0 and idle + word(0) > span then
    local high = n
    while first < high do
      local middle = floor((first + high) / 2)
      if idle + word(middle) <= span then high = middle else first = middle + 1 end
    end
    if first > 0 then
      local _
      _, spent = word(first - 1)
    end
  end
  return spent, first, (total - spent) % M40
end

-- The first tick at which `cost` fits under `capacity`, and the units held then; 0 where it fits now.
local function fits_at(span, capacity, cost, spent, first, used)
  if cost > capacity then return NEVER, 0 end
  local need = used + cost - capacity
  if need <= 0 then return 0, used end
  local high = n
  while first < high do
    local middle = floor((first + high) / 2)
    local _, cum = word(middle)
    if (cum - spent) % M40 >= need then high = middle else first = middle + 1 end
  end
  local age, cum = 0, total
  if first < n then age, cum = word(first) end
  return open - age + span + 1, used - (cum - spent) % M40
end

-- Merges words that lie in one cell into the newest of them; see `engine/mod.rs`.
local function coarsen()
  local idle, out, k, stays, cell = now - open, {}, most + 1, nil, nil
  for i = n - 1, 0, -1 do
    local age = word(i)
    local tick = open - age
    if not cell or floor(tick / cell) ~= floor(stays / cell) then
      local span = max(kept, spans[span_count])
      for s = span_count, 1, -1 do
        if idle + age <= spans[s] then span = spans[s] end
      end
      stays, cell = tick, floor((span + cells - 1) / cells)
      k = k - 1
      out[k] = sub(words, 9 * i + 1, 9 * i + 9)
    end
  end
  words, n = table.concat(out, '', k, most), most + 1 - k
  merged = n
end

-- Moves the open bucket to `now`: closes the old one and drops what has expired.
local function roll()
  if now <= open then return end
  local spent, first, used = view(kept)
  if first > 0 then
    words, n, merged = sub(words, 9 * first + 1), n - first, max(merged - first, 0)
  end
  if used > 0 then
    if n >= most then coarsen() end
    words, n = words .. pack('<I4I5', open % M32, total), n + 1
  end
  open, base = now, spent
end

-- Writes the key, to live for as long as anything in it does.
local function store(key, packed_shed)
  local header = pack('<I4I4I6I5I5I2I2I2', bucket, kept, open, total, base, merged, n, #packed_shed)
  redis.call('SET', key, header .. packed_shed .. words, 'PX', string.format('%.0f', (now - clock + kept + 2) * bucket))
end
