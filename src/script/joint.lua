end

-- ARGV[1] = the time in ms, or empty for the server's
-- ARGV[2..] = per key: the policy, then: cost u40, random u32, whether a refusal refuses the request u8, whether a value
--             of another type refuses it u8, whether this is the request's last key u8
-- Reply: per key a record; then now in ms as a double.
--
-- After a refusal, nothing of the request is written. So an ask by the suppressed strategy is no demand then, and
-- whether it was shed is irrelevant.
local FOREIGN, TIME_BYTES = 255, 8
local ADMITTED = { [0] = true, [2] = true }

local now_ms, replies = tonumber(ARGV[1]), {}
if not now_ms then
  local time = server.call('TIME')
  local us = time[1] * 1000000 + time[2]
  now_ms = (us - us % 1000) / 1000
end

local function write(all)
  for i = 1, #all do server.call(unpack(all[i])) end
end

-- The writes of the limits with room, and the demand of those that shed the request.
local fits, charges, demands = true, {}, {}
for k = 1, #KEYS do
  local is_enforced, is_needed, is_last = string.byte(ARGV[2 * k + 1], 10, 12)
  waiting = {}
  local reply = decide(apart, { KEYS[k] }, { ARGV[2 * k], now_ms, string.sub(ARGV[2 * k + 1], 1, 9) })
  local verdict = string.byte(reply)
  replies[k] = string.sub(reply, 1, -1 - TIME_BYTES)
  if fits then
    local is_admitted = ADMITTED[verdict]
    local all = is_admitted and charges or demands
    for i = 1, #waiting do all[#all + 1] = waiting[i] end
    fits = is_admitted or (verdict == FOREIGN and is_needed or is_enforced) == 0
  end
  if is_last == 1 then
    write(demands)
    if fits then write(charges) end
    fits, charges, demands = true, {}, {}
  end
end
replies[#KEYS + 1] = struct.pack('<d', now_ms)
return table.concat(replies)
