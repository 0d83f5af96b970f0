import { type Exchange, head, phaseOf, sleep } from "./harness.js"
import { canonical } from "./models.js"

/** One line or event of a stream; `token` marks those that faults and delays count. */
export interface Frame {
  readonly text: string | Buffer
  readonly token: boolean
}

/** Waits until the model is in memory, as a server does that loads it for the first request. */
export async function loadModel(x: Exchange, model: string): Promise<boolean> {
  const key = canonical(model)
  let loading = x.memory.get(key)
  if (loading === undefined) {
    const delay = x.options.loadDelay ?? 0
    loading = delay > 0 ? new Promise((resolve) => setTimeout(resolve, delay).unref()) : Promise.resolve()
    x.memory.set(key, loading)
  }
  const closed = new Promise<void>((resolve) => x.res.once("close", resolve))
  await Promise.race([loading, closed])
  return x.isClosed() ? false : (x.options.firstToken ?? 0) > 0 ? sleep(x, x.options.firstToken ?? 0) : true
}

/** Sends a stream with the delays and the fault of its exchange. `error` is the server's in-stream error. */
export async function sendStream(
  x: Exchange,
  contentType: string,
  frames: ReadonlyArray<Frame>,
  special: {
    readonly error: (message: string | undefined) => string
    readonly malformed: string
  }
): Promise<void> {
  const fault = x.fault
  const after = fault !== undefined && "after" in fault ? (fault.after ?? 0) : 0
  const at = afterTokens(frames, after)
  let plan = frames
  let then: "end" | "stall" | "keepAlive" | "fin" | "rst" = "end"
  switch (fault?.kind) {
    case "stall":
    case "keepAlive":
      plan = frames.slice(0, at)
      then = fault.kind
      break
    case "cut":
      plan = frames.slice(0, at)
      then = fault.how ?? "fin"
      break
    case "cutLine": {
      const line = Buffer.from(frames[at]?.text ?? "")
      plan = [...frames.slice(0, at), { text: line.subarray(0, line.length >> 1), token: false }]
      then = "fin"
      break
    }
    case "cutLast": {
      const missing = fault.frames ?? 1
      const last = Buffer.from(frames.at(-missing)?.text ?? "")
      plan = frames.slice(0, -missing)
      if (fault.torn === true) plan = [...plan, { text: last.subarray(0, last.length >> 1), token: false }]
      then = fault.how ?? "fin"
      break
    }
    case "silentEnd":
      plan = frames.slice(0, at)
      break
    case "malformed":
      plan = [...frames.slice(0, at), { text: special.malformed, token: false }, ...frames.slice(at)]
      break
    case "errorLine":
      plan = [...frames.slice(0, at), { text: special.error(fault.message), token: false }]
      break
  }
  head(x, 200, { "content-type": contentType })
  if (plan.length === 0) x.res.flushHeaders()
  x.record.tokensTotal = plan.filter((frame) => frame.token).length
  const pace = fault?.kind === "slow" ? fault.ms : (x.options.perToken ?? "each")
  if (pace === "burst") {
    if (!(await write(x, Buffer.concat(plan.map((frame) => Buffer.from(frame.text)))))) return
    x.record.tokensSent += plan.filter((frame) => frame.token).length
  } else {
    let first = true
    for (const [i, frame] of plan.entries()) {
      if (frame.token && !first && typeof pace === "number" && !(await sleep(x, pace))) return
      if (x.strike() !== undefined && !(await endure(x, frame, i / Math.max(1, plan.length - 1), special))) return
      if (frame.token) first = false
      if (!(await write(x, Buffer.from(frame.text)))) return
      if (frame.token) x.record.tokensSent++
      await tick()
    }
  }
  if (x.isClosed() || then === "stall") return
  if (then === "keepAlive") {
    const nothing = contentType.startsWith("text/event-stream") ? ": keep-alive\n\n" : "\n"
    while ((await sleep(x, 20)) && (await push(x, Buffer.from(nothing)))) {}
    return
  }
  if (then === "end") x.res.end()
  else x.drop(then)
}

/** Suffers what befalls the server, before this frame; `progress` is how far the stream is, from 0 to 1. */
async function endure(
  x: Exchange,
  frame: Frame,
  progress: number,
  special: { readonly error: (message: string | undefined) => string; readonly malformed: string }
): Promise<boolean> {
  while (true) {
    const strike = x.strike()
    if (strike === undefined || x.isClosed()) return !x.isClosed()
    // An answer that was under way breaks at once.
    if ("at" in strike && x.cameUnder === strike && progress < strike.at) return true
    switch (strike.kind) {
      case "stall":
        x.struck(phaseOf(x.record))
        await Promise.race([x.restored(), new Promise((resolve) => x.res.once("close", resolve))])
        continue
      case "slow":
        x.struck(phaseOf(x.record))
        return sleep(x, strike.ms)
      case "cut": {
        x.struck(phaseOf(x.record))
        const line = Buffer.from(frame.text)
        if (await push(x, line.subarray(0, line.length >> 1))) x.drop(strike.how)
        return false
      }
      case "malformed":
      case "errorLine": {
        x.struck(phaseOf(x.record))
        const text = strike.kind === "malformed" ? special.malformed : special.error(undefined)
        if (await push(x, Buffer.from(text))) x.res.end()
        return false
      }
      case "silentEnd":
        x.struck(phaseOf(x.record))
        x.res.end()
        return false
      default:
        return true
    }
  }
}

/** Sends a whole body with its length, with the fault of its exchange applied to it. */
export async function sendBody(x: Exchange, status: number, contentType: string, text: string, headers = {}) {
  const fault = x.fault
  const strike = x.strike()
  if (strike?.kind === "slow" && !(await sleep(x, strike.ms))) return
  if (strike !== undefined && "at" in strike) {
    x.struck("first token")
    head(x, status, { "content-type": contentType, "content-length": text.length + 1 })
    if (await write(x, Buffer.from(text).subarray(0, text.length >> 1))) x.drop("fin")
    return
  }
  const bytes = Buffer.from(fault?.kind === "malformed" ? text.slice(0, text.length >> 1) : text)
  if (fault?.kind === "slow" && !(await sleep(x, fault.ms))) return
  head(x, status, { "content-type": contentType, "content-length": bytes.length, ...headers })
  if (fault?.kind === "stall" || fault?.kind === "cut" || fault?.kind === "cutLine") {
    if (!(await write(x, bytes.subarray(0, bytes.length >> 1))) || fault.kind === "stall") return
    return x.drop(fault.kind === "cut" ? fault.how : "fin")
  }
  if (fault?.kind === "cutByte" || fault?.kind === "splitUtf8") {
    if (await write(x, bytes)) x.res.end()
    return
  }
  x.res.end(bytes)
}

/** The number of frames up to and including token k; for k = 0 those before the first token. */
function afterTokens(frames: ReadonlyArray<Frame>, k: number): number {
  const tokens = frames.flatMap((frame, i) => (frame.token ? [i] : []))
  if (k === 0) return tokens[0] ?? 0
  const i = tokens[Math.min(k, tokens.length) - 1]
  return i === undefined ? 0 : i + 1
}

const tick = () => new Promise<void>((resolve) => setImmediate(resolve))

/** Writes bytes of the body; false when the exchange ended or was cut here. */
async function write(x: Exchange, bytes: Buffer): Promise<boolean> {
  if (x.isClosed()) return false
  if (x.fault?.kind === "cutByte") {
    const sent = bodyBytes.get(x) ?? 0
    const left = x.fault.at - sent
    bodyBytes.set(x, sent + bytes.length)
    if (bytes.length >= left) {
      await push(x, bytes.subarray(0, left))
      x.drop("fin")
      return false
    }
  }
  if (x.fault?.kind !== "splitUtf8") return push(x, bytes)
  for (let i = 0; i < bytes.length; i++) {
    if (!(await push(x, bytes.subarray(i, i + 1)))) return false
    await tick()
  }
  return true
}

const bodyBytes = new WeakMap<Exchange, number>()

/** Hands bytes to the network and waits until it has taken them, or the client is gone. */
const push = (x: Exchange, bytes: Buffer): Promise<boolean> =>
  new Promise((resolve) => {
    if (x.isClosed()) return resolve(false)
    if (bytes.length === 0) {
      x.res.flushHeaders()
      return void setImmediate(() => resolve(!x.isClosed()))
    }
    const done = () => {
      x.res.off("close", done)
      resolve(!x.isClosed())
    }
    x.res.once("close", done)
    x.res.write(bytes, done)
  })
