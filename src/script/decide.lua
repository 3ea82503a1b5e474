-- Decisions in the general case, and the absolute strategy: the same algorithm as `engine/absolute.rs`.
--
-- ARGV[3..] = per key: with leases the sync request, then its asks: cost u40, random u32
-- Reply: per key: per ask a record, and with leases the sync reply; then now in ms as a double.
-- record = verdict u8, used u40, newest u48, binding u8, violated u8, fits at u48, used then u40, ratio as a double; if
-- it fits at 0, the units used then are those used.
local ALLOWED, REJECTED, PASSED, SHED, FULL = 0, 1, 2, 3, 4
local RECORD = '<I1I5I6I1I1I6I5d'
-- Fills the replies of a key with another type. No verdict and no sync reply starts with it.
local FOREIGN, RECORD_BYTES, LENT_BYTES = '\255', 33, 61

-- Replies for a key with another type, so that its callers get an error and no other key does.
local function foreign(asks)
  local bytes = RECORD_BYTES * #asks / 9
  if interval > 0 then bytes = RECORD_BYTES * unpack('<I2', asks, 35) + LENT_BYTES end
  answers[#answers + 1] = string.rep(FOREIGN, bytes)
end

-- Checks every limit. Returns which refuse, when the cost fits, the units held then and now, and the binding limit.
-- Also returns whether a limit has no room for the same cost again.
local function survey(cost, cap)
  local violated, fits, used_then, used_of, binding, bit, tight = 0, 0, 0, 0, 1, 1, false
  for i = 1, limit_count do
    local limit = limits[i]
    local spent, first, live, lent = view(limit[4])
    local used = live + lent
    if used + cost > limit[cap] then
      local fits_here, then_here = fits_at(limit[4], limit[cap], cost, spent, first, used)
      if fits_here > fits then fits, used_then, used_of, binding = fits_here, then_here, used, i end
      violated = violated + bit
    elseif i == 1 then
      used_of = used
    elseif violated == 0 then
      local other = limits[binding]
      local free, free_of = max(limit[1] - used - cost, 0), max(other[1] - used_of - cost, 0)
      if free * other[1] < free_of * limit[1] then used_of, binding = used, i end
    end
    tight, bit = tight or used + 2 * cost > limit[1], bit * 2
  end
  return violated, fits, used_then, used_of, binding, tight
end

-- Charges a cost that fits all limits, and replies.
local function admit(verdict, binding, used, cost, ratio, tight)
  local fits = 0
  if cost > 0 then
    roll()
    total, known, dirty = (total + cost) % M40, true, true
    for i = 1, tight and limit_count or 0 do
      local limit = limits[i]
      local spent, first, live, lent = view(limit[4])
      local fits_here = fits_at(limit[4], limit[1], cost, spent, first, live + lent)
      if fits_here > fits then fits = fits_here end
    end
  end
  answers[#answers + 1] = pack(RECORD, verdict, used + cost, open, binding - 1, 0, fits, used + cost, ratio)
end

local function absolute_key(key, asks)
  local first = 1
  if interval > 0 then first = report(asks) end
  for ask = first, #asks, 9 do
    local cost = unpack('<I5', asks, ask)
    local violated, fits, used_then, used, binding, tight = survey(cost, 1)
    if violated > 0 then
      answers[#answers + 1] = pack(RECORD, REJECTED, used, open, binding - 1, violated, fits, used_then, 0)
    else
      admit(ALLOWED, binding, used, mode == 0 and cost or 0, 1, tight)
    end
  end
  if interval > 0 then answers[#answers + 1] = lend(1, 1) end
  if dirty then store(key, shed) end
end

-- Decides the keys that have no reply yet.
local function decide_rest(decide_key)
  for k = 1, #KEYS do
    if not replies[k] then
      answers, shed = {}, load(KEYS[k])
      if shed then decide_key(KEYS[k], ARGV[k + 2]) else foreign(ARGV[k + 2]) end
      replies[k] = table.concat(answers)
    end
  end
  replies[#KEYS + 1] = packed_time
  return table.concat(replies)
end

if mode < 2 then return decide_rest(absolute_key) end
