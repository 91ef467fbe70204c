-- Takes a token of a bucket, if there is one.
--
-- KEYS[1] is the bucket, ARGV[1] the microseconds between two tokens, ARGV[2]
-- how many tokens there are when it is full. Returns whether there was one, and
-- how many the bucket misses then, in millionths.
--
-- A bucket is "<tokens that it misses> <microseconds since 1970 at which>", and a
-- full one is not there. It keeps no time in the future, so that a clock that steps
-- back costs no more than what had dropped in since.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local cost, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local missing = 0
-- Redis is asked for an expiry in milliseconds that it can still add to the time.
local function keep()
  local ttl = math.min(math.ceil(missing * cost / 1000) + 1, 10000000000000)
  redis.call('SET', KEYS[1], string.format('%.17g %.0f', missing, now), 'PX', string.format('%.0f', ttl))
end
local future = false
local was = redis.call('GET', KEYS[1])
if was then
  local tokens, at = string.match(was, '^(%S+) (%S+)$')
  tokens, at = tonumber(tokens) or 0, tonumber(at) or now
  future = at > now
  missing = math.max(0, tokens - math.max(0, now - at) / cost)
end
if missing + 1 > burst + 0.000001 then
  if future then keep() end
  return {0, math.ceil(missing * 1000000)}
end
missing = missing + 1
keep()
return {1, math.ceil(missing * 1000000)}
