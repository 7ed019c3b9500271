// Drives minigo as Sabaki does: node sabaki.js FOLDER_OF_SABAKI_GTP PROGRAM ARGUMENT...
// Prints a line for every step that went well; the first failure ends it.

const assert = require('assert')
const os = require('os')
const {Controller, ControllerStateTracker} = require(process.argv[2])

const [program, ...words] = process.argv.slice(3)
const warnings = []

function attach() {
  const controller = new Controller(program, words, {cwd: os.tmpdir()})
  controller.on('stderr', ({content}) => warnings.push(content))
  return {controller, tracker: new ControllerStateTracker(controller)}
}

async function ask(controller, name, ...args) {
  const response = await controller.sendCommand({name, args})
  assert(!response.error, `${name} ${args}: ${response.content}`)
  return response.content
}

// The variations of a line of analysis, as Sabaki 0.52 reads them.
function parseAnalysis(line) {
  return line.split(/\s*info\s+/).slice(1).map(text => {
    const line = text.trim().match(/(pass|[A-Za-z]\d+)(\s+(pass|[A-Za-z]\d+))*$/)
    assert(line, `no pv at the end of '${text}'`)
    const tokens = text.slice(0, line.index).trim().split(/\s+/).slice(0, -1)
    const values = {moves: line[0].split(/\s+/)}
    for (let i = 0; i < tokens.length; i += 2) values[tokens[i]] = tokens[i + 1]
    return values
  })
}

async function startBurst(controller) {
  const started = Date.now()
  controller.start()
  const names = ['name', 'version', 'protocol_version', 'list_commands']
  const answers = Promise.all(names.map(name => ask(controller, name)))
  await ask(controller, 'kata-set-rules', 'chinese') // the user's own initial command
  const [name, version, protocol, commands] = await answers
  assert.strictEqual(name, 'minigo')
  assert(/^\d+\.\d+/.test(version))
  assert.strictEqual(protocol, '2')
  const analysis = commands.split('\n').filter(x => /^(lz-|kata-)?(genmove_)?analyze$/.test(x))
  assert.deepStrictEqual(analysis, [
    'lz-analyze', 'kata-analyze', 'lz-genmove_analyze', 'kata-genmove_analyze'
  ])
  assert(Date.now() - started < 10000)
}

async function genmove({controller, tracker}, history, color) {
  await tracker.sync({komi: 7, boardsize: [9, 9], history})
  const lines = []
  const command = {name: 'kata-genmove_analyze', args: [color, '10']}
  const response = await tracker.queueCommand(command, ({line}) => lines.push(line))
  assert(!response.error && lines[0] === '=', lines[0])
  assert(lines.some(line => parseAnalysis(line).length > 0))
  return lines.find(line => line.startsWith('play ')).slice(5)
}

async function playGame(black, white) {
  const history = []
  let passes = 0
  for (let ply = 0; ply < 300 && passes < 2; ply++) {
    const color = 'BW'[ply % 2]
    const vertex = await genmove(ply % 2 ? white : black, history, color)
    if (vertex === 'resign') break
    history.push({name: 'play', args: [color, vertex.toUpperCase()]})
    passes = vertex === 'pass' ? passes + 1 : 0
  }
  assert(history.length > 10 && history.length < 300, `${history.length} moves`)
  await black.tracker.sync({history})
  await white.tracker.sync({history})
  const scores = [await ask(black.controller, 'final_score'), await ask(white.controller, 'final_score')]
  assert.strictEqual(scores[0], scores[1])
  assert(/^([BW]\+\d+(\.5)?|0)$/.test(scores[0]), scores[0])
  return history
}

async function analyzeAndInterrupt(controller) {
  for (const name of ['kata-analyze', 'lz-analyze']) {
    const lines = []
    let interruption = null, variations = []
    const analysis = controller.sendCommand({name, args: ['W', '5']}, ({line}) => {
      lines.push(line)
      if (interruption || !line.startsWith('info')) return
      variations = parseAnalysis(line) // the first lines of a busy machine may have one move
      if (lines.length >= 4 && variations.length > 1) interruption = ask(controller, 'protocol_version')
    })
    await analysis
    assert.strictEqual(await interruption, '2')
    assert.strictEqual(lines[0], '=')
    assert.strictEqual(lines[lines.length - 1], '')
    assert(variations.length > 1 && variations.every(v => v.moves[0] === v.move && +v.visits > 0))
    for (const {winrate, prior, scoreLead, order} of variations) {
      assert.strictEqual(name === 'kata-analyze', winrate.includes('.') && scoreLead != null)
      assert(+winrate <= (name === 'kata-analyze' ? 1 : 10000) && +prior >= 0 && order != null)
    }
  }
}

async function undoToTheBeginning({controller, tracker}, history) {
  await tracker.sync({history: history.slice(0, -3)}) // by `undo`
  for (let i = history.length - 3; i > 0; i--) await ask(controller, 'undo')
  assert((await controller.sendCommand({name: 'undo'})).error)
  assert.strictEqual(await ask(controller, 'list_stones', 'B'), '')
  assert.deepStrictEqual(tracker.state.history, [])
}

async function setUpPosition({controller, tracker}) {
  const stones = [
    {name: 'set_free_handicap', args: ['D4', 'E5', 'F6']},
    {name: 'play', args: ['W', 'D5']},
    {name: 'play', args: ['W', 'E6']},
    {name: 'play', args: ['B', 'PASS']},
    {name: 'play', args: ['W', 'PASS']},
    {name: 'play', args: ['B', 'A1']}
  ]
  await tracker.sync({komi: 3.75, boardsize: [9, 9], history: stones})
  assert.deepStrictEqual((await ask(controller, 'list_stones', 'B')).split(' ').sort(), [
    'A1', 'D4', 'E5', 'F6'
  ])
  assert.deepStrictEqual((await ask(controller, 'list_stones', 'W')).split(' ').sort(), ['D5', 'E6'])
  assert.strictEqual(await ask(controller, 'get_komi'), '3.75')
  await assert.rejects(
    tracker.sync({history: [...stones, {name: 'play', args: ['W', 'A1']}]}),
    /cannot be replayed/
  )
}

async function playHandicap({controller, tracker}) {
  await tracker.sync({boardsize: [13, 13], history: []})
  const vertices = (await ask(controller, 'fixed_handicap', '9')).split(' ')
  assert.strictEqual(new Set(vertices).size, 9)
  const vertex = await ask(controller, 'genmove', 'W')
  assert(/^[A-N]\d+$/.test(vertex), vertex)
  assert.strictEqual(tracker.state.history.length, 2)
  assert(warnings.some(line => line.includes('trained on 9x9')), `${warnings}`)
}

async function crashAndRestart({controller, tracker}) {
  const stopped = new Promise(resolve => controller.once('stopped', resolve))
  const analysis = controller.sendCommand({name: 'kata-analyze', args: ['B', '10']}, () => {
    if (controller.process) controller.process.kill('SIGKILL')
  })
  await assert.rejects(analysis, /stopped/)
  await stopped
  assert.strictEqual(tracker.state.history.length, 0)
  await startBurst(controller)
  await tracker.sync({komi: 6.5, boardsize: [9, 9], history: [{name: 'play', args: ['B', 'C3']}]})
  assert.strictEqual(await ask(controller, 'list_stones', 'B'), 'C3')
}

async function quitWhileThinking({controller}) {
  const analysis = ask(controller, 'kata-analyze', 'B', '10')
  await new Promise(resolve => setTimeout(resolve, 200))
  const started = Date.now()
  await controller.stop(3000)
  await analysis
  assert(Date.now() - started < 3000)
  assert.strictEqual(controller.process, null)
}

async function main() {
  const [black, white] = [attach(), attach()]
  const step = async (name, promise) => {
    const started = Date.now()
    const result = await promise
    console.log(`${name}: ${((Date.now() - started) / 1000).toFixed(1)} s`)
    return result
  }
  await step('burst', Promise.all([startBurst(black.controller), startBurst(white.controller)]))
  const history = await step('game', playGame(black, white))
  await step('analysis', analyzeAndInterrupt(white.controller))
  await step('quit', quitWhileThinking(white))
  await step('undo', undoToTheBeginning(black, history))
  await step('position', setUpPosition(black))
  await step('handicap', playHandicap(black))
  await step('crash', crashAndRestart(black))
  await black.controller.stop()
}

main().catch(error => {
  console.log(error)
  process.exit(1)
})
