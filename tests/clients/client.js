// A client in Node, from the files themselves: makes a plan, and uses it. Run by .ci/clients.
'use strict'

const assert = require('node:assert')
const path = require('node:path')
const grpc = require('@grpc/grpc-js')
const loader = require('@grpc/proto-loader')

const KEY = 'a-key-of-the-node-client'
const TARGET = 'node/prod'
const PROTO = path.join(__dirname, '../../proto')

async function main(address) {
  const options = { keepCase: false, enums: String, longs: Number, defaults: true, oneofs: true, includeDirs: [PROTO] }
  const files = await loader.load(['tollgate/v1/decision.proto', 'tollgate/v1/usage_plans.proto'], options)
  const { DecisionService, UsagePlanService } = grpc.loadPackageDefinition(files).tollgate.v1
  const insecure = grpc.credentials.createInsecure()
  const [gateway, books] = [new DecisionService(address, insecure), new UsagePlanService(address, insecure)]
  const call = (client, method, request) =>
    new Promise((resolve, reject) => client[method](request, (error, answer) => (error ? reject(error) : resolve(answer))))

  const quotas = [{ name: 'yearly', limit: 2, unit: 'YEAR' }]
  const usagePlan = { id: 'node', displayName: 'Node', entitlements: [{ name: 'all', targets: [TARGET], quotas }] }
  const made = await call(books, 'createUsagePlan', { usagePlan })
  assert.strictEqual(made.entitlements[0].quotas[0].limit, 2)
  assert.deepStrictEqual(await call(books, 'getUsagePlan', { id: 'node' }), made)
  await call(books, 'createSubscriber', { subscriber: { id: 'node', plans: ['node'] } })
  await call(books, 'importApiKey', { apiKey: { id: 'node-1', subscriber: 'node' }, value: KEY })

  const check = () => call(gateway, 'check', { apiKey: KEY, target: TARGET, method: 'GET', path: '/' })
  const [first, second, third] = [await check(), await check(), await check()]
  assert.deepStrictEqual([first.verdict, second.verdict], ['ALLOW', 'ALLOW'])
  assert.deepStrictEqual([third.verdict, third.reason, third.httpStatus], ['DENY', 'QUOTA_EXCEEDED', 429])
  const outcomes = [{ receipt: first.receipt, httpStatus: 503 }, { receipt: second.receipt, httpStatus: 200 }]
  assert.deepStrictEqual((await call(gateway, 'report', { outcomes })).results, ['REFUNDED', 'COUNTED'])
  assert.strictEqual((await check()).verdict, 'ALLOW', 'the refunded unit is there again')

  const answer = await new Promise((resolve, reject) => {
    const stream = gateway.checkStream()
    stream.on('data', resolve).on('error', reject)
    stream.write({ id: 7, apiKeys: [KEY, 'unknown'], targets: [TARGET] })
    stream.end()
  })
  assert.deepStrictEqual([answer.id, answer.verdicts], [7, ['DENY', 'DENY']])
  assert.deepStrictEqual(answer.reasons, ['QUOTA_EXCEEDED', 'API_KEY_UNKNOWN'])

  const usage = await call(books, 'getUsage', { subscriber: 'node' })
  assert.deepStrictEqual(usage.quotas.map(({ quota, used, remaining }) => [quota, used, remaining]), [['yearly', 2, 0]])
  await assert.rejects(call(books, 'getUsagePlan', { id: 'nowhere' }), { code: grpc.status.NOT_FOUND })
  await call(books, 'deleteApiKey', { id: 'node-1' })
  assert.strictEqual((await check()).reason, 'API_KEY_UNKNOWN')
  gateway.close()
  books.close()
  console.log('Node: made a plan, checked, reported')
}

main(process.argv[2])
