-- Decides on requests with several limits. Each request is charged to all of them or to none.
--
-- The text of the other script follows as a function, which decides on one key. It cannot write: `apart` takes its
-- writes, and `joint.lua` executes those of an admitted request. Each key of a request occurs in it once, so no
-- decision of the request misses a write that waits.
local server, waiting = redis, nil
local READS = { GET = true, GETRANGE = true }

local function take(...)
  waiting[#waiting + 1] = { ... }
end

local apart = {
  call = function(name, ...)
    if READS[name] then return server.call(name, ...) end
    take(name, ...)
  end,
  pcall = function(name, ...)
    if READS[name] then return server.pcall(name, ...) end
    take(name, ...)
  end,
}

local function decide(redis, KEYS, ARGV)
