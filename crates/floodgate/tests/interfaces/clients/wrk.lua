-- wrk: the sale's document and an attempt by turns, as fast as they are answered.
local get, post, turn

function init(args)
  get = wrk.format("GET", "/api/v1/sales/launch")
  local headers = {
    ["Floodgate-Pass"] = args[2], ["Idempotency-Key"] = "wrk", ["Content-Type"] = "application/json",
  }
  post = wrk.format("POST", args[1], headers, '{"lines":[{"item":"phone","quantity":1}]}')
end

function request()
  turn = not turn
  return turn and get or post
end

function done(summary)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.timeout + errors.status
  io.write(string.format("requests %d failed %d\n", summary.requests, failed))
end
