-- What every call needs: its shape and its time.
--
-- value  = head, open tick u48, total u40, base u40, merged u16, words u16, shed, leases, words
-- head   = bucket ms u32, span kept u32, bytes of shed u16, leases u16, epoch u32
-- lease  = id 12, last tick at which it may be spent u48, units u40, rate f32; in the order of the ticks
-- word   = low bits of the tick u32, running total u40; oldest first
--
-- ARGV[1] = the head of a value with the longest span, and without shed units, leases and epoch; then most words u16,
--           plain capacity u40, whether refusals are plain u8, plain life u8 and as many digits, cells in a span u16,
--           spans u8, each span u32 rising; then the call's own. If the plain capacity is 0, no decision is plain.
-- ARGV[2] = the time in ms, or empty for the server's
local M32, M40 = 4294967296, 1099511627776
local pack, unpack, sub, call = struct.pack, struct.unpack, string.sub, redis.call

local policy = ARGV[1]
local bucket, longest, most, plain_capacity, plain_refusals, plain_life, at = unpack('<I4I4xxxxxxxxI2I5I1I1c0', policy)

local now_ms = tonumber(ARGV[2])
if not now_ms then
  local time = call('TIME')
  local us = time[1] * 1000000 + time[2]
  now_ms = (us - us % 1000) / 1000
end
local clock = (now_ms - now_ms % bucket) / bucket
