// A small gateway: it asks tollgate before it forwards a request, and reports how it ended. See ../README.md.
'use strict'

const crypto = require('node:crypto')
const http = require('node:http')
const path = require('node:path')
const { parseArgs } = require('node:util')
const { setTimeout: sleep } = require('node:timers/promises')
const grpc = require('@grpc/grpc-js')
const loader = require('@grpc/proto-loader')

// The caller waits for these, twice at most.
const CHECK_TIMEOUT_MS = 100
const REPORT_TIMEOUT_MS = 5000
// The pause before a report is sent again, at first and at most.
const REPORT_PAUSES_MS = [100, 5000]
// How long a receipt can be settled: `receipts.ttl` of the server.
const RECEIPT_TTL_MS = 3600_000
const MOST_WAITING = 100_000
const MOST_AT_ONCE = 1000
// How long a stop may take.
const LAST_REPORTS_MS = 5000

const PROTO = path.join(__dirname, '../../../proto')
const contract = loader.loadSync('tollgate/v1/decision.proto', {
  enums: String,
  longs: Number,
  defaults: true,
  oneofs: true,
  includeDirs: [PROTO],
})
const { DecisionService } = grpc.loadPackageDefinition(contract).tollgate.v1
const AGAIN = [grpc.status.UNAVAILABLE, grpc.status.DEADLINE_EXCEEDED]

/** Checks and reports. */
class Tollgate {
  #client
  #waiting = []
  #sending = null
  lostReports = 0

  constructor(address) {
    // Without this it would wait for up to two minutes before it connects again.
    const options = { 'grpc.max_reconnect_backoff_ms': 1000 }
    this.#client = new DecisionService(address, grpc.credentials.createInsecure(), options)
  }

  #call(method, request, timeoutMs) {
    return new Promise((resolve, reject) =>
      this.#client[method](request, { deadline: Date.now() + timeoutMs }, (error, answer) => (error ? reject(error) : resolve(answer))),
    )
  }

  /** The answer, which may be a denial. `null`: there is none, and so no verdict. */
  async check(apiKey, target, method, path) {
    // The same id both times: what was charged and not heard of is not charged again.
    const question = { apiKey, target, method, path, operationId: crypto.randomUUID() }
    for (let time = 0; time < 2; time++) {
      try {
        return await this.#call('check', question, CHECK_TIMEOUT_MS)
      } catch (error) {
        if (!AGAIN.includes(error.code)) {
          console.error(`tollgate refuses the question: ${error.message}`)
          return null
        }
      }
    }
    return null
  }

  /** Says how a request ended: `{httpStatus}`, or `{ending}` where there is no status. Nobody waits for it. */
  report(receipt, ended) {
    if (!receipt) return
    if (this.#waiting.length >= MOST_WAITING) {
      // It stays charged.
      this.lostReports++
      return
    }
    this.#waiting.push({ since: Date.now(), outcome: { receipt, ...ended } })
    this.#sending ??= this.#sendReports().finally(() => (this.#sending = null))
  }

  /** Sends what waits, for some seconds. */
  async close() {
    await Promise.race([this.#sending, sleep(LAST_REPORTS_MS)])
    this.#client.close()
  }

  async #sendReports() {
    let pauseMs = REPORT_PAUSES_MS[0]
    while (this.#waiting.length > 0) {
      const batch = this.#waiting.slice(0, MOST_AT_ONCE)
      try {
        await this.#call('report', { outcomes: batch.map(({ outcome }) => outcome) }, REPORT_TIMEOUT_MS)
        this.#waiting.splice(0, batch.length)
        pauseMs = REPORT_PAUSES_MS[0]
        continue
      } catch (error) {
        console.error(`reports are sent again: ${error.message}`)
      }
      await sleep(pauseMs)
      pauseMs = Math.min(pauseMs * 2, REPORT_PAUSES_MS[1])
      const fresh = this.#waiting.filter(({ since }) => Date.now() - since < RECEIPT_TTL_MS)
      this.lostReports += this.#waiting.length - fresh.length
      this.#waiting = fresh
    }
  }
}

/** The response of the upstream, whole. */
function forward(upstream, request) {
  return new Promise((resolve, reject) => {
    const [host, port] = upstream.split(':')
    const asked = http.request({ host, port, method: request.method, path: request.url, timeout: 30_000 }, (response) => {
      const parts = []
      response.on('data', (part) => parts.push(part))
      response.on('end', () => resolve({ status: response.statusCode, body: Buffer.concat(parts) }))
      response.on('error', reject)
    })
    asked.on('timeout', () => asked.destroy(new Error('the upstream is silent')))
    asked.on('error', reject)
    asked.end()
  })
}

const { values: args } = parseArgs({
  options: { tollgate: { type: 'string' }, target: { type: 'string' }, upstream: { type: 'string' }, 'fail-open': { type: 'boolean' } },
})
const tollgate = new Tollgate(args.tollgate)

const server = http.createServer(async (request, response) => {
  const gone = () => response.closed && !response.writableFinished
  const say = (status, body, headers = []) => {
    headers.forEach(({ name, value }) => response.setHeader(name, value))
    response.writeHead(status, { 'content-length': Buffer.byteLength(body) }).end(body)
  }
  const answer = await tollgate.check(request.headers['x-api-key'] ?? '', args.target, request.method, request.url)
  if (answer === null && !args['fail-open']) return say(503, 'cannot be decided\n')
  if (answer !== null && answer.verdict !== 'ALLOW') return say(answer.httpStatus, `${answer.reason}\n`, answer.headers)

  let ended
  try {
    const { status, body } = await forward(args.upstream, request)
    ended = gone() ? { ending: 'CALLER_GONE' } : { httpStatus: status }
    say(status, body, answer?.headers)
  } catch {
    ended = { ending: 'NO_RESPONSE' }
    say(502, 'no response\n')
  }
  tollgate.report(answer?.receipt, ended)
})
server.listen(0, '127.0.0.1', () => console.log(`listening 127.0.0.1:${server.address().port}`))

process.on('SIGTERM', async () => {
  server.close()
  server.closeIdleConnections()
  await tollgate.close()
})
