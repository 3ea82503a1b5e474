-- Plain decisions: one limit over the longest window, on keys without leases and shed units. Of the suppressed
-- strategy, only admissions below the capacity are plain; they are the same as in the absolute strategy.
--
-- They are the common case, so they come before the functions of the general case, which take longer to create than a
-- plain decision takes. A key is read once and written at most once. If a key needs more, nothing of it is written
-- here, and the general case decides all its requests.
--
-- Most versions of Redis hash every byte of a string that they pass to Lua. So a long history is read only if needed.
local replies, replied, packed_time = {}, 0, pack('<d', now_ms)

if plain_capacity > 0 then
  local KEYS, ARGV, get, head = KEYS, ARGV, redis.pcall, sub(policy, 1, 16)
  -- Each write sets a time to live that is sufficient for all units of the same part of the span. So later writes in
  -- that part need not set it.
  local part = (longest - longest % 8) / 8 + 1
  for k = 1, #KEYS do
    -- `break` leaves the key to the general case.
    repeat
      local key, asks = KEYS[k], ARGV[k + 2]
      -- A missing key reads as an empty string, and a key of another type as a table. Most keys have at most 12 words.
      local value = get('GETRANGE', key, '0', '143')
      local of, open, total, base, merged, n = head, clock, 0, 0, 0, 0
      if #value >= 36 then
        of, open, total, base, merged, n = unpack('<c16I6I5I5I2I2', value)
      elseif value ~= '' then
        break
      end
      if of ~= head or open > clock then break end
      local cost, idle, spent, first = unpack('<I5', asks), clock - open, base, 0
      if #value ~= 36 + 9 * n and value ~= '' then
        if #value < 144 or n < 12 then break end
        if idle > 0 or (total - base) % M40 + cost > plain_capacity then
          value = call('GET', key)
          if #value ~= 36 + 9 * n then break end
        end
      end

      -- The same as `view` in `window.lua`. In the open bucket, no word has expired since it was opened.
      if idle > longest then
        spent, first = total, n
      elseif idle > 0 and n > 0 and idle + (open - unpack('<I4', value, 37)) % M32 > longest then
        local high = n
        while first < high do
          local middle = (first + high - (first + high) % 2) / 2
          local age = (open - unpack('<I4', value, 9 * middle + 37)) % M32
          if idle + age <= longest then high = middle else first = middle + 1 end
        end
        spent = unpack('<I5', value, 9 * first + 32)
      end
      local used = (total - spent) % M40

      if used + cost > plain_capacity then
        -- The same as `fits_at` in `window.lua`. A refusal writes nothing.
        if plain_refusals == 0 or cost > plain_capacity or #asks > 9 then break end
        local need, low, high, tick, cum = used + cost - plain_capacity, first, n, open, total
        while low < high do
          local middle = (low + high - (low + high) % 2) / 2
          if (unpack('<I5', value, 9 * middle + 41) - spent) % M40 >= need then high = middle else low = middle + 1 end
        end
        if low < n then
          tick, cum = unpack('<I4I5', value, 9 * low + 37)
          tick = open - (open - tick) % M32
        end
        local left = used - (cum - spent) % M40
        replies[k] = pack('<I1I5I6I1I1I6I5d', 1, used, open, 0, 1, tick + longest + 1, left, 0)
        replied = replied + 1
        break
      end

      -- A full history must be merged first.
      if idle > 0 and n - first >= most then break end
      local records, after = #asks > 9 and {}, used
      for ask = 1, #asks, 9 do
        if records then cost = unpack('<I5', asks, ask) end
        after = after + cost
        -- The general case computes when the same cost fits again.
        if cost == 0 or after + cost > plain_capacity then
          after = nil
          break
        end
        -- The rest of the record: the only limit binds, none is violated, the cost fits again, and the ratio is 1.
        local record = pack('<I1I5I6c21', 0, after, clock, '\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\240\63')
        if records then records[#records + 1] = record else records = record end
      end
      if not after then break end
      if idle == 0 and value ~= '' then
        call('SETRANGE', key, '22', pack('<I5', (total + after - used) % M40))
      else
        value = pack(
          used > 0 and '<c16I6I5I5I2I2c0I4I5' or '<c16I6I5I5I2I2c0', head, clock, (total + after - used) % M40, spent,
          merged > first and merged - first or 0, n - first + (used > 0 and 1 or 0), sub(value, 9 * first + 37),
          open % M32, total
        )
        if clock - clock % part == open - open % part and idle > 0 then
          call('SET', key, value, 'KEEPTTL')
        else
          call('SET', key, value, 'PX', plain_life)
        end
      end
      replies[k] = #asks > 9 and table.concat(records) or records
      replied = replied + 1
    until true
  end
  if replied == 1 and #KEYS == 1 then return replies[1] .. packed_time end
  if replied == #KEYS then
    replies[replied + 1] = packed_time
    return table.concat(replies)
  end
end
