-- The limits of a call.
--
-- ARGV[1] continues with: mode u8, limits u8, sync interval in ms u32, tolerance f64, then per limit: capacity u40,
-- hard u40, window u32, span u32, fast u32. An interval of 0 means no leases.
local mode, limit_count, interval, tolerance
mode, limit_count, interval, tolerance, at = unpack('<I1I1I4d', policy, at)
-- Each limit as packed: 1 capacity, 2 hard, 3 window, 4 span, 5 fast.
local limits = {}
for i = 1, limit_count do
  limits[i] = { unpack('<I5I5I4I4I4', policy, at) }
  at = limits[i][6]
end

-- The replies to one key.
local answers

