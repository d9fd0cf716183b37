// Two real Streamr network nodes on loopback, and what an operator's machine and chain serve over HTTP:
// GET /info, the answer of the node's info plugin, with its check of keys; POST /rpc, a chain node that knows one
// operator contract and speaks its published ABI. Called with one JSON argument: where the packages are installed, three
// ports, the node's key, the operator and its contract's state by block. Prints one line of JSON when it is ready.
'use strict'

const http = require('node:http')
const { createRequire } = require('node:module')
const path = require('node:path')

const settings = JSON.parse(process.argv[2])
const installed = createRequire(path.join(settings.packages, 'index.js'))
const { StreamrClient } = installed('@streamr/sdk')
const { Interface } = installed('ethers')
const ABI = '@streamr/network-contracts/dist/abis/contracts/OperatorTokenomics/Operator.sol/Operator.json'

const NOWHERE = 'http://127.0.0.1:1'
const FIRST = { nodeId: 'a1'.repeat(20), type: 'nodejs', websocket: { host: '127.0.0.1', port: settings.ports[0], tls: false } }
const STREAM_PART = '0x1111111111111111111111111111111111111111/demo#0'

function client(privateKey, port, own) {
    return new StreamrClient({
        logLevel: 'error',
        auth: { privateKey },
        metrics: false,
        contracts: { rpcs: [{ url: NOWHERE }], theGraphUrl: NOWHERE },
        network: {
            controlLayer: {
                ...own,
                entryPoints: [FIRST],
                entryPointDiscovery: { enabled: false },
                iceServers: [],
                websocketHost: '127.0.0.1',
                websocketPortRange: { min: port, max: port },
                websocketServerEnableTls: false
            }
        }
    })
}

function send(response, status, value) {
    response.writeHead(status, { 'content-type': 'application/json' })
    response.end(value === undefined ? undefined : JSON.stringify(value))
}

function refused(headers) {
    const shown = headers.authorization
    if (shown === undefined) return 401
    const [scheme, key] = shown.split(' ')
    return scheme.toLowerCase() === 'bearer' && key === settings.key ? undefined : 403
}

function outcome({ method, params }, operator) {
    const [call, block] = params
    if (method !== 'eth_call') return { error: { code: -32601, message: `the method ${method} does not exist` } }
    const state = settings.blocks[Number(block)]
    if (state === undefined) return { error: { code: -32000, message: 'missing trie node' } }
    if (call.to.toLowerCase() !== settings.operator) return { result: '0x' }
    const asked = operator.parseTransaction({ data: call.data })
    if (asked?.name !== 'getSponsorshipsAndEarnings') return { error: { code: 3, message: 'execution reverted' } }
    return { result: operator.encodeFunctionResult(asked.name, [state.sponsorships, state.earnings, state.limit]) }
}

async function main() {
    const first = client(`0x${'1'.repeat(64)}`, settings.ports[0], { peerDescriptor: FIRST })
    const node = client(`0x${'2'.repeat(64)}`, settings.ports[1], {})
    for (const one of [first, node]) {
        const inner = await one.node.getNode()
        await inner.join(STREAM_PART, { minCount: one === node ? 1 : 0, timeout: 20000 })
    }
    const operator = new Interface(installed(ABI))
    const server = http.createServer(async (request, response) => {
        let body = ''
        for await (const chunk of request) body += chunk
        if (request.url === '/rpc') {
            const asked = JSON.parse(body)
            return send(response, 200, { jsonrpc: '2.0', id: asked.id, ...outcome(asked, operator) })
        }
        const status = refused(request.headers)
        if (status !== undefined) return send(response, status)
        return send(response, 200, await node.getDiagnosticInfo())
    })
    process.on('SIGTERM', async () => {
        await Promise.all([first.destroy(), node.destroy()])
        process.exit(0)
    })
    server.listen(settings.ports[2], '127.0.0.1', async () => {
        console.log(JSON.stringify({ nodeId: await node.node.getNodeId() }))
    })
}

main().catch((error) => {
    console.error(error)
    process.exit(1)
})
