import * as Duration from "../../internal/duration.js"
import type { Ask } from "../ask.js"
import * as Control from "../control.js"
import type { Exchange } from "../exchange.js"
import * as Fields from "../fields.js"
import type { House } from "../house.js"
import * as Models from "../models.js"
import { make, ollama as ollamaProblem, type Problem, Refusal } from "../problem.js"
import * as Rights from "../rights.js"
import * as Lists from "./lists.js"
import { failed, type Known, nameOf, servers } from "./servers.js"

/** How long a download may stand still, in milliseconds. */
const pullTimeout = 300_000

/** The servers that are meant: the one that is named, by its address or as the lists call it, or all. */
const targets = async (house: House, exchange: Exchange, body: Fields.Fields): Promise<ReadonlyArray<Known>> => {
  const all = (await servers(house)).filter(({ ollama }) => ollama)
  const header = exchange.request.headers["x-aicortex-target"]
  const query = new URL(exchange.request.url ?? "/", "http://gateway").searchParams.get("server")
  const wanted = Fields.text(body, "server") ?? query ?? (typeof header === "string" ? header : undefined)
  if (all.length === 0)
    throw new Refusal(
      make(503, "No Ollama server can be reached. Models are kept on those: start one, or name it in `servers`.")
    )
  if (wanted === "all") return all
  const names = all.map(({ label }) => label).join(", ")
  if (wanted === undefined) {
    if (all.length === 1) return all
    throw new Refusal(
      make(
        400,
        `Say which server is meant: "server" must be one of ${names}, or all (in the body, as ?server=, or as X-Aicortex-Target).`
      )
    )
  }
  const found = all.filter(({ label, server }) => label === wanted || server.url === wanted.replace(/\/+$/, ""))
  if (found.length === 0)
    throw new Refusal(make(404, `There is no server '${wanted.slice(0, 100)}'; there are ${names}, and all.`))
  return found
}

const without = (body: Fields.Fields): object => {
  const { server: _, ...rest } = body
  return rest
}

/** The lists have changed: they are read again before anybody is answered from them. */
const refresh = (house: House): Promise<void> => house.library.run(house.library.registry.refresh).result

/**
 * `POST /api/pull`: on one server, or on all at once; each line says which it is about.
 *
 * @since 0.1.0
 * @category handlers
 */
export const pull = async (house: House, exchange: Exchange, body: Fields.Fields): Promise<void> => {
  nameOf(body)
  const stream = Fields.flag(body, "stream") ?? true
  const all = await targets(house, exchange, body)
  const problems: Array<Problem> = []
  const write = (value: object) => {
    if (!exchange.headSent) exchange.stream("application/x-ndjson")
    exchange.write(`${JSON.stringify(value)}\n`)
  }
  await Promise.all(
    all.map(async ({ label, server }) => {
      try {
        let last = ""
        let succeeded = false
        await Control.ask(house.library.transport, server, {
          method: "POST",
          path: "/api/pull",
          body: { ...without(body), stream: true },
          timeout: pullTimeout,
          stop: (stop) => exchange.onLeave(stop),
          line: (line) => {
            if (line.trim() === "") return
            let item: unknown
            try {
              item = JSON.parse(line)
            } catch {
              return
            }
            if (!Fields.isObject(item)) return
            if (item["error"] !== undefined) {
              throw new Control.ControlFailed({ reason: "server-error", message: String(item["error"]) })
            }
            if (item["status"] === "success") {
              succeeded = true
              return
            }
            if (stream && line !== last) write({ ...item, server: label })
            last = line
          }
        })
        if (!succeeded) throw new Control.ControlFailed({ reason: "cut", message: "the download ended too early" })
      } catch (error) {
        if (!(error instanceof Control.ControlFailed)) throw error
        const problem = failed(house, error)
        problems.push({ ...problem, message: `${label}: ${problem.message}` })
      }
    })
  )
  if (exchange.left) return
  await refresh(house)
  const [problem] = problems
  if (problem !== undefined) {
    const told = { ...problem, message: problems.map(({ message }) => message).join("; ") }
    if (exchange.headSent) exchange.end(`${JSON.stringify(ollamaProblem(told))}\n`)
    else exchange.problem(told)
  } else if (stream) {
    write({ status: "success" })
    exchange.end()
  } else exchange.json({ status: "success" })
}

const change = async (
  house: House,
  exchange: Exchange,
  body: Fields.Fields,
  method: "POST" | "DELETE",
  path: string
): Promise<void> => {
  const all = await targets(house, exchange, body)
  const problems: Array<Problem> = []
  let done = 0
  await Promise.all(
    all.map(async ({ label, server }) => {
      try {
        await Control.ask(house.library.transport, server, { method, path, body: without(body), timeout: 60_000 })
        done++
      } catch (error) {
        if (!(error instanceof Control.ControlFailed)) throw error
        const problem = failed(house, error)
        problems.push({ ...problem, message: `${label}: ${problem.message}` })
      }
    })
  )
  await refresh(house)
  // Of all servers only those that have it can be changed.
  const serious = done === 0 ? problems : problems.filter(({ status }) => status !== 404)
  const [problem] = serious
  if (problem === undefined) exchange.send(200, "application/json; charset=utf-8", "")
  else exchange.problem({ ...problem, message: serious.map(({ message }) => message).join("; ") })
}

/**
 * `DELETE /api/delete`.
 *
 * @since 0.1.0
 * @category handlers
 */
export const remove = (house: House, exchange: Exchange, body: Fields.Fields): Promise<void> => {
  nameOf(body)
  return change(house, exchange, body, "DELETE", "/api/delete")
}

/**
 * `POST /api/copy`.
 *
 * @since 0.1.0
 * @category handlers
 */
export const copy = (house: House, exchange: Exchange, body: Fields.Fields): Promise<void> => {
  Fields.needed(body, "source")
  Fields.needed(body, "destination")
  return change(house, exchange, body, "POST", "/api/copy")
}

/**
 * A request without a prompt: a model is loaded on the server that would answer, or, with `keep_alive: 0`, unloaded
 * wherever it is.
 *
 * @since 0.1.0
 * @category handlers
 */
export const load = async (house: House, exchange: Exchange, ask: Ask, generates: boolean): Promise<void> => {
  Rights.check(house.settings, exchange.admin, ask.request)
  const named = ask.model ?? Models.defaultModel(house)
  const model = await Lists.meant(house, named)
  const hosts = await house.library.run(house.library.locate(model)).result
  const able = hosts.filter((host) => host.protocol === "ollama")
  if (able.length === 0)
    throw new Refusal(make(400, `'${named}' is on no Ollama server: it cannot be loaded or unloaded.`))
  const { keepAlive } = ask.request
  const unload = (typeof keepAlive === "string" ? Duration.parse(keepAlive) : keepAlive) === 0
  const best = await house.library.run(house.library.router.best(model, house.settings.routing)).result
  const chosen = unload
    ? able
    : able
        .filter((host) => host.server.url === best.url)
        .concat(able)
        .slice(0, 1)
  await Promise.all(
    chosen.map(async (host) => {
      try {
        await Control.ask(house.library.transport, host.server, {
          method: "POST",
          path: "/api/generate",
          body: { model: host.model, stream: false, ...(keepAlive === undefined ? {} : { keep_alive: keepAlive }) },
          timeout: pullTimeout,
          stop: (stop) => exchange.onLeave(stop)
        })
      } catch (error) {
        if (error instanceof Control.ControlFailed) throw new Refusal(failed(house, error))
        throw error
      }
    })
  )
  exchange.json({
    model: named,
    created_at: new Date().toISOString(),
    ...(generates ? { response: "" } : { message: { role: "assistant", content: "" } }),
    done: true,
    done_reason: unload ? "unload" : "load"
  })
}
