# The presence channel of a widely taught lesson, as headcount's benches measure it: puma config.ru
#
# A Redis hash of user ids to timestamps. Subscribing and heartbeats write it, unsubscribing deletes, each heartbeat
# removes everybody not seen for 30 seconds, and every change broadcasts the whole list with names from the database.
# Beside it a channel that passes on what is published, and
#
# POST /publish?first=N&count=M  tells every watcher M messages of 200 bytes, N and following
# POST /members?count=N          makes N users present, as if N browsers had come
require "logger"
require "active_record"
require "action_dispatch"
require "action_cable"
require "action_cable/server/base"
require "redis"

ActiveRecord::Base.establish_connection(adapter: "postgresql", pool: 20)

class User < ActiveRecord::Base
end

REDIS = Redis.new(url: ENV.fetch("REDIS_URL"))
ONLINE = "presence:online_users"
STALE_AFTER = 30

def mark(number)
  format("mk~%08d", number)
end

class Connection < ActionCable::Connection::Base
  identified_by :user

  def connect
    self.user = request.headers["X-User"] || "nobody"
  end
end

class FanChannel < ActionCable::Channel::Base
  def subscribed
    stream_from "fan"
  end
end

class WatchChannel < ActionCable::Channel::Base
  def subscribed
    stream_from "presence"
  end
end

class PresenceChannel < ActionCable::Channel::Base
  def subscribed
    stream_from "presence"
    REDIS.hset(ONLINE, user, Time.now.to_i)
    broadcast
  end

  def unsubscribed
    REDIS.hdel(ONLINE, user)
    broadcast
  end

  def heartbeat
    REDIS.hset(ONLINE, user, Time.now.to_i)
    remove_stale
    transmit({ beaten: true })
  end

  private

  def remove_stale
    oldest = Time.now.to_i - STALE_AFTER
    REDIS.hgetall(ONLINE).each { |id, seen| REDIS.hdel(ONLINE, id) if seen.to_i < oldest }
  end

  def broadcast
    ids = REDIS.hkeys(ONLINE)
    users = User.where(id: ids).map { |found| { id: found.id, name: found.name, avatar_url: found.avatar_url } }
    ActionCable.server.broadcast("presence", { type: "presence_update", users: users, count: users.size })
  end
end

config = ActionCable.server.config
config.logger = Logger.new(IO::NULL)
config.connection_class = -> { Connection }
config.cable = { "adapter" => "redis", "url" => ENV.fetch("REDIS_URL") }
config.disable_request_forgery_protection = true
config.worker_pool_size = 4

answer = [200, { "Content-Type" => "application/json", "Content-Length" => "2" }, ["{}"]].freeze

run lambda { |env|
  query = Rack::Utils.parse_query(env["QUERY_STRING"])
  case env["PATH_INFO"]
  when "/publish"
    first = query["first"].to_i
    query["count"].to_i.times do |n|
      ActionCable.server.broadcast("fan", { id: mark(first + n), text: "x" * 166 })
    end
    answer
  when "/members"
    REDIS.del(ONLINE)
    now = Time.now.to_i + 3600
    query["count"].to_i.times { |n| REDIS.hset(ONLINE, mark(n), now) }
    answer
  else
    ActionCable.server.call(env)
  end
}
