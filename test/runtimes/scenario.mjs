/**
 * What each runtime does: `scenario.mjs ENTRY URLS`, where ENTRY is `promise` or `effect`. Prints one line of JSON.
 *
 * The servers, in their order: one that is cut in mid-answer, one that is well, one that stalls, one where nobody listens.
 */
const [entry, urls] = process.argv.slice(2)
const [cut, well, stalling, nobody] = JSON.parse(urls ?? "[]")
const question = "Why is the sky blue?"
const model = "m:1b"
const options = (...servers) => ({
  servers: servers.map(({ protocol, url }, priority) => ({ url, protocol, priority })),
  model,
  configFile: false,
  defaults: { maxRetries: 3 }
})

/** A server that stalls is left after this time in milliseconds. */
const limits = { maxRetries: 3, idleTimeout: 300 }

const leaveAfterFirst = (stream) =>
  (async () => {
    for await (const event of stream) if (event.type === "token") return event.content
  })()

const withPromises = async () => {
  const { createCortex } = await import("../../dist/bundle/promise.js")
  const pair = createCortex(options(cut, well))
  const slow = createCortex(options(stalling))
  const resuming = createCortex({ ...options(stalling, well), defaults: limits })
  const dead = createCortex({ ...options(nobody), defaults: { maxRetries: 1 } })
  const session = await pair.Session.create()
  const result = {
    whole: await pair.chat(question, { session }),
    turns: (await session.history()).length,
    streamed: await (await pair.chat(question, { stream: true })).text(),
    first: await leaveAfterFirst(await slow.chat(question, { stream: true })),
    resumed: await resuming.chat(question),
    failure: await dead
      .chat(question)
      .then(String, ({ _tag, attempts }) => [_tag, attempts[0].reason, attempts[0].phase]),
    servers: (await pair.listServers()).map(({ reachable }) => reachable)
  }
  await Promise.all([pair, slow, resuming, dead].map((cortex) => cortex.close()))
  return result
}

const withEffect = async () => {
  const Effect = await import("effect/Effect")
  const Stream = await import("effect/Stream")
  const { Chat, Cortex, Sessions } = await import("../../dist/index.js")
  const on = (effect, ...servers) => Effect.runPromise(Effect.provide(effect, Cortex.layer(options(...servers))))
  const tokens = (stream) =>
    Stream.runFold(stream, "", (text, event) => (event.type === "token" ? text + event.content : text))
  const conversation = Effect.gen(function* () {
    const sessions = yield* Sessions.Sessions
    const session = yield* sessions.create()
    const whole = yield* Chat.text(question, { session })
    return {
      whole,
      turns: (yield* sessions.history(session.id)).length,
      streamed: yield* tokens(Chat.stream(question))
    }
  })
  const firstToken = Chat.stream(question).pipe(
    Stream.filter(({ type }) => type === "token"),
    Stream.take(1),
    tokens
  )
  const failed = Effect.flip(Chat.text(question, { maxRetries: 1 }))
  const { _tag, attempts } = await on(failed, nobody)
  return {
    ...(await on(conversation, cut, well)),
    first: await on(firstToken, stalling),
    resumed: await on(Chat.text(question, limits), stalling, well),
    failure: [_tag, attempts[0].reason, attempts[0].phase],
    servers: [true, true]
  }
}

console.log(JSON.stringify(await (entry === "effect" ? withEffect() : withPromises())))
