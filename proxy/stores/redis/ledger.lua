-- Owns the ledger that replicas share. Every key begins with KEYS[1], a Cluster hash tag: one ledger is one slot.
--
-- {ledger}             hash: `run`, the server that it was last seen on; `quiet`, until when nothing is admitted
-- {ledger}:replicas    hash: replica -> the number of its next write
-- {ledger}:alive       sorted set: replica -> when it counts as gone, by this server's clock
-- {ledger}:awaited     set: replicas that have not said again what they hold since the server changed
-- {ledger}:holds:R     hash: id of a hold -> its amount and counters
-- {ledger}:slices:R    hash: counter -> what is set aside for the replica, to spend when it cannot ask
-- {ledger}:c:COUNTER   hash: `n` spent, `h` held, `l` set aside, `t` tokens, `c` calls; `n:R`, `t:R`, `c:R` by replica
--
-- Invariant: n + h + l of a counter is never more than a cap that was held against it, but by what providers billed
-- beyond a hold. Sums are made by HINCRBY, exact in 64 bits. Lua's numbers are doubles, exact to 2^53: callers send no
-- larger cap, and a sum that is larger is larger than every cap, rounded or not.

local base, op, me = KEYS[1], ARGV[1], ARGV[2]
local REPLICAS, ALIVE, AWAITED = base .. ':replicas', base .. ':alive', base .. ':awaited'
local KEPT_MS = 64 * 24 * 3600 * 1000
local LAPSED_AT_ONCE = 4

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function counter(name) return base .. ':c:' .. name end
local function holds(replica) return base .. ':holds:' .. replica end
local function slices(replica) return base .. ':slices:' .. replica end

local function minus(text)
  if string.sub(text, 1, 1) == '-' then return string.sub(text, 2) end
  return text == '0' and text or '-' .. text
end

local function add(name, field, amount) redis.call('HINCRBY', counter(name), field, amount) end

local function each(key, act)
  local entries = redis.call('HGETALL', key)
  for i = 1, #entries, 2 do act(entries[i], entries[i + 1]) end
end

local function waiting()
  local quiet = tonumber(redis.call('HGET', base, 'quiet') or 0)
  return (now_ms() < quiet or redis.call('SCARD', AWAITED) > 0) and 1 or 0
end

local function lives() redis.call('ZADD', ALIVE, now_ms() + ARGV[4], me) end

local function open_hold(id, amount, names)
  for _, name in ipairs(names) do
    add(name, 'h', amount)
    redis.call('PEXPIRE', counter(name), KEPT_MS)
  end
  redis.call('HSET', holds(me), id, cmsgpack.pack({amount, names}))
end

local function close_hold(replica, id, packed)
  local amount, names = unpack(cmsgpack.unpack(packed))
  for _, name in ipairs(names) do add(name, 'h', minus(amount)) end
  redis.call('HDEL', holds(replica), id)
  return amount, names
end

local function set_aside(name, more)
  add(name, 'l', more)
  if redis.call('HINCRBY', slices(me), name, more) == 0 then redis.call('HDEL', slices(me), name) end
end

local function give_back(replica, name, amount)
  add(name, 'l', minus(amount))
  redis.call('HDEL', slices(replica), name)
end

local function take_for(replica, name, amount, calls)
  for field, more in pairs({n = amount, c = calls}) do
    add(name, field, more)
    add(name, field .. ':' .. replica, more)
  end
end

-- Nobody knows whether a silent replica spent what it had, so it is taken as spent. If it comes back, what it says of
-- itself replaces this: its own fields are set, not added to.
local function lapse(replica)
  each(holds(replica), function(id, packed)
    local amount, names = close_hold(replica, id, packed)
    for _, name in ipairs(names) do take_for(replica, name, amount, 1) end
  end)
  each(slices(replica), function(name, amount)
    give_back(replica, name, amount)
    take_for(replica, name, amount, 0)
  end)
  redis.call('HDEL', REPLICAS, replica)
  redis.call('SREM', AWAITED, replica)
  redis.call('ZREM', ALIVE, replica)
end

local ops = {}

-- lease_ms, run, quiet_ms -> whether this server knew the replica
function ops.enter()
  local known = redis.call('HEXISTS', REPLICAS, me)
  if redis.call('HGET', base, 'run') ~= ARGV[5] then
    for _, replica in ipairs(redis.call('ZRANGE', ALIVE, 0, -1)) do redis.call('SADD', AWAITED, replica) end
    redis.call('DEL', REPLICAS)
    redis.call('HSET', base, 'run', ARGV[5], 'quiet', string.format('%.0f', now_ms() + ARGV[6]))
    known = 0
  end
  if waiting() == 1 then redis.call('SADD', AWAITED, me) end
  redis.call('HSET', REPLICAS, me, ARGV[3])
  lives()
  return known
end

-- id, amount, share, then (counter, cap) of each limit -> 0 and how the slices of its counters change, or which is full
function ops.reserve()
  local id, amount, share = ARGV[4], ARGV[5], tonumber(ARGV[6])
  local names, room, has = {}, {}, {}
  for i = 7, #ARGV, 2 do
    local name = ARGV[i]
    if not has[name] then
      names[#names + 1] = name
      has[name] = tonumber(redis.call('HGET', slices(me), name) or 0)
    end
    local n, h, l = unpack(redis.call('HMGET', counter(name), 'n', 'h', 'l'))
    local left = ARGV[i + 1] - (n or 0) - (h or 0) - (l or 0) - amount
    -- What is set aside for this replica is room as well, as much as the call takes: so much it counts as spent until
    -- it has the answer, and should that be lost it never spends more than is set aside for it.
    if left + math.min(has[name], amount) < 0 then return {(i - 5) / 2} end
    room[name] = math.min(room[name] or left, left)
  end
  open_hold(id, amount, names)
  local answer = {0}
  for _, name in ipairs(names) do
    local left = room[name]
    local more = left < 0 and left or math.max(0, math.min(share * amount - has[name], math.floor(left / 2)))
    if more ~= 0 then set_aside(name, more) end
    answer[#answer + 1] = more
  end
  return answer
end

-- count, then (counter, spent, tokens, calls) of the replica as they stand and what of its slice is given back, then ids
-- of holds that have ended
function ops.post()
  local last = 4 + 5 * ARGV[4]
  for i = 5, last, 5 do
    local key = counter(ARGV[i])
    for j, field in ipairs({'n', 't', 'c'}) do
      local stands, stood = ARGV[i + j], redis.call('HGET', key, field .. ':' .. me) or '0'
      if stands ~= stood then
        redis.call('HINCRBY', key, field, minus(stood))
        redis.call('HINCRBY', key, field, stands)
        redis.call('HSET', key, field .. ':' .. me, stands)
      end
    end
    redis.call('PEXPIRE', key, KEPT_MS)
    if ARGV[i + 4] ~= '0' then set_aside(ARGV[i], minus(ARGV[i + 4])) end
  end
  for i = last + 1, #ARGV do
    local packed = redis.call('HGET', holds(me), ARGV[i])
    if packed then close_hold(me, ARGV[i], packed) end
  end
end

-- lease_ms, count, then (counter, amount) of each slice, then (id, amount, count, counters…) of each hold, instead of
-- all that is known of them -> whether others are still waited for
function ops.restate()
  each(holds(me), function(id, packed) close_hold(me, id, packed) end)
  each(slices(me), function(name, amount) give_back(me, name, amount) end)
  local at = 6
  for _ = 1, ARGV[5] do
    set_aside(ARGV[at], ARGV[at + 1])
    at = at + 2
  end
  while at <= #ARGV do
    local last = at + 2 + ARGV[at + 2]
    open_hold(ARGV[at], ARGV[at + 1], {unpack(ARGV, at + 3, last)})
    at = last + 1
  end
  redis.call('SREM', AWAITED, me)
  lives()
  return waiting()
end

-- lease_ms
function ops.beat()
  lives()
  for _, replica in ipairs(redis.call('ZRANGEBYSCORE', ALIVE, '-inf', now_ms() - 1, 'LIMIT', 0, LAPSED_AT_ONCE)) do
    lapse(replica)
  end
end

-- One that still holds something stays, until it lapses or comes back.
function ops.leave()
  if redis.call('EXISTS', holds(me), slices(me)) > 0 then return end
  redis.call('ZREM', ALIVE, me)
  redis.call('HDEL', REPLICAS, me)
end

-- counters -> spent, held, tokens, calls of each
function ops.totals()
  local answer = {}
  for i = 4, #ARGV do answer[#answer + 1] = redis.call('HMGET', counter(ARGV[i]), 'n', 'h', 't', 'c') end
  return answer
end

if op == 'enter' then return ops.enter() end
-- Writes of a replica are numbered: what was sent before it entered again, or got lost with a server, is never taken up.
if redis.call('HGET', REPLICAS, me) ~= ARGV[3] then return redis.error_reply('AGAIN enter first') end
if op ~= 'totals' then redis.call('HINCRBY', REPLICAS, me, 1) end
return ops[op]()
