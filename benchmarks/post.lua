-- For wrk: POST without a body, and the summary as one line of JSON. Times in it are ms, wrk counts microseconds.
wrk.method = "POST"

function done(summary, latency, requests)
  local errors = summary.errors
  local bad = errors.status + errors.connect + errors.read + errors.write + errors.timeout
  print(string.format(
    '{"requests": %d, "seconds": %f, "bad": %d, "p50": %f, "p99": %f}',
    summary.requests, summary.duration / 1e6, bad, latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
