-- Adds units at a tick that is not in the future.
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
  -- A full log adds them to its next bucket, which is later.
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
