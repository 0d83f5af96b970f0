/**
 * Ollama's lists and what it does with models, over the whole fleet.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import { version } from "../../internal/version.js"
import type { ModelInfo } from "../../Model.js"
import { canonical } from "../../Model.js"
import type { Server } from "../../Server.js"
import type { Ask } from "../ask.js"
import * as Control from "../control.js"
import type { Exchange } from "../exchange.js"
import * as Fields from "../fields.js"
import { make, ollama as ollamaProblem, type Problem, Refusal, refuse } from "../problem.js"
import type { House } from "../relay.js"

/** How long a server may take to list something, in milliseconds; a dead one must not hold up the others. */
const listTimeout = 3_000

/** How long a download may stand still, in milliseconds. */
const pullTimeout = 300_000

/** The oldest version of Ollama whose API this is. */
const apiVersion = "0.12.0"

interface Known {
  readonly server: Server
  readonly label: string
  readonly ollama: boolean
  readonly models: ReadonlyArray<string>
}

const servers = async (house: House): Promise<ReadonlyArray<Known>> => {
  const all = await house.library.run(house.library.servers).result
  return all
    .filter(({ status }) => status.reachable)
    .map(({ server, status }) => ({
      server,
      label: house.labels.label(server.url),
      ollama: (status.protocol ?? "ollama") === "ollama",
      models: status.models
    }))
}

const infoOf = (house: House, model: string): Promise<ModelInfo | undefined> =>
  house.library.run(Effect.orElseSucceed(house.library.registry.modelInfo(model), () => undefined)).result

const listOf = (body: Fields.Fields): ReadonlyArray<Fields.Fields> =>
  (Array.isArray(body["models"]) ? (body["models"] as ReadonlyArray<unknown>) : []).filter(Fields.isObject)

/** Asks every Ollama server; whoever fails has nothing to say. */
const fromAll = async (house: House, all: ReadonlyArray<Known>, path: string) =>
  Promise.all(
    all.map(async (known) => {
      if (!known.ollama) return { known, models: undefined }
      try {
        const body = await Control.json(house.library.transport, known.server, {
          method: "GET",
          path,
          timeout: listTimeout
        })
        return { known, models: listOf(body) }
      } catch (error) {
        if (error instanceof Control.ControlFailed) return { known, models: undefined }
        throw error
      }
    })
  )

/** What is known of a model of a server that has no list of Ollama's. */
const described = (name: string, info: ModelInfo | undefined): object => ({
  name,
  model: name,
  modified_at: "1970-01-01T00:00:00Z",
  size: info?.size ?? 0,
  digest: "",
  details: {
    parent_model: "",
    format: info?.format ?? "",
    family: info?.family ?? "",
    families: info === undefined ? [] : [info.family],
    parameter_size: info?.parameter_size ?? "",
    quantization_level: info?.quantization_level ?? ""
  },
  ...(info?.capabilities === undefined ? {} : { capabilities: info.capabilities })
})

// =============================================================================
// lists
// =============================================================================

/**
 * `GET /api/tags`: every model once, with the servers that have it.
 *
 * @since 0.1.0
 * @category handlers
 */
export const tags = async (house: House, exchange: Exchange): Promise<void> => {
  const all = await servers(house)
  const models = new Map<string, { readonly item: object; readonly servers: Array<string> }>()
  for (const { known, models: listed } of await fromAll(house, all, "/api/tags")) {
    const items =
      listed ?? (await Promise.all(known.models.map(async (name) => described(name, await infoOf(house, name)))))
    for (const item of items as ReadonlyArray<Fields.Fields>) {
      const name = item["name"] ?? item["model"]
      if (typeof name !== "string") continue
      const key = canonical(name)
      const before = models.get(key)
      if (before === undefined) models.set(key, { item, servers: [known.label] })
      else before.servers.push(known.label)
    }
  }
  if (models.size === 0) {
    const demo = await infoOf(house, "aicortex-demo")
    models.set("aicortex-demo", { item: described("aicortex-demo", demo), servers: ["embedded"] })
  }
  exchange.json({ models: [...models.values()].map(({ item, servers }) => ({ ...item, servers })) })
}

/**
 * `GET /api/ps`: what is in memory, and where.
 *
 * @since 0.1.0
 * @category handlers
 */
export const ps = async (house: House, exchange: Exchange): Promise<void> => {
  const found = await fromAll(house, await servers(house), "/api/ps")
  exchange.json({
    models: found.flatMap(({ known, models }) => (models ?? []).map((item) => ({ ...item, server: known.label })))
  })
}

/**
 * `GET /api/version`: the oldest of the servers' versions, because clients read from it what they may send.
 *
 * @since 0.1.0
 * @category handlers
 */
export const versions = async (house: House, exchange: Exchange): Promise<void> => {
  const all = (await servers(house)).filter(({ ollama }) => ollama)
  const known = await Promise.all(
    all.map(async ({ server }) => {
      try {
        const body = await Control.json(house.library.transport, server, {
          method: "GET",
          path: "/api/version",
          timeout: listTimeout
        })
        return typeof body["version"] === "string" ? body["version"] : undefined
      } catch (error) {
        if (error instanceof Control.ControlFailed) return undefined
        throw error
      }
    })
  )
  const versions = known.filter((one) => one !== undefined)
  versions.sort((a, b) => a.localeCompare(b, "en", { numeric: true }))
  exchange.json({ version: versions[0] ?? apiVersion, aicortex: version })
}

const nameOf = (body: Fields.Fields): string => {
  const name = Fields.text(body, "model") ?? Fields.text(body, "name") ?? ""
  return name.trim() === "" ? refuse("model", "is required") : name
}

/**
 * `POST /api/show`: what a server says of its model.
 *
 * @since 0.1.0
 * @category handlers
 */
export const show = async (house: House, exchange: Exchange, body: Fields.Fields): Promise<void> => {
  const named = nameOf(body)
  const name = house.settings.aliases.get(named)?.[0] ?? named
  const hosts = await house.library.run(house.library.locate(name)).result
  let problem: Control.ControlFailed | undefined
  for (const host of hosts) {
    if (host.protocol !== "ollama") continue
    try {
      const reply = await Control.json(house.library.transport, host.server, {
        method: "POST",
        path: "/api/show",
        body: { ...body, model: host.model, name: undefined },
        timeout: listTimeout
      })
      exchange.headers["x-aicortex-server"] = house.labels.label(host.server.url)
      exchange.json(reply)
      return
    } catch (error) {
      if (!(error instanceof Control.ControlFailed)) throw error
      problem = error
    }
  }
  const info = await infoOf(house, name)
  if (info === undefined || hosts.every((host) => host.protocol === "ollama")) {
    throw problem === undefined
      ? new Refusal(make(404, `model '${named}' not found`, "model_not_found", "model"))
      : new Refusal(failed(house, problem))
  }
  exchange.json({
    license: "",
    modelfile: "",
    parameters: "",
    template: "",
    ...described(info.model_name, info),
    model_info: {
      "general.architecture": info.family,
      ...(info.context_length === undefined ? {} : { [`${info.family}.context_length`]: info.context_length })
    },
    capabilities: info.capabilities ?? ["completion"]
  })
}

// =============================================================================
// changes
// =============================================================================

const failed = (house: House, { failure }: Control.ControlFailed): Problem =>
  make(
    failure.reason === "invalid-request"
      ? 400
      : failure.status === 404 || failure.reason === "model-not-found"
        ? 404
        : 502,
    house.labels.redact(failure.message)
  )

/** The servers that are meant: the one that is named, by its address or as the lists call it, or all. */
const targets = async (house: House, exchange: Exchange, body: Fields.Fields): Promise<ReadonlyArray<Known>> => {
  const all = (await servers(house)).filter(({ ollama }) => ollama)
  const header = exchange.request.headers["x-aicortex-target"]
  const query = new URL(exchange.request.url ?? "/", "http://gateway").searchParams.get("server")
  const wanted = Fields.text(body, "server") ?? query ?? (typeof header === "string" ? header : undefined)
  if (all.length === 0) throw new Refusal(make(503, "No Ollama server can be reached."))
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
  let last = ""
  await Promise.all(
    all.map(async ({ label, server }) => {
      try {
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
  const named = ask.model ?? house.settings.defaultModel ?? house.library.settings.model
  const model = house.settings.aliases.get(named)?.[0] ?? named
  const hosts = await house.library.run(house.library.locate(model)).result
  const able = hosts.filter((host) => host.protocol === "ollama")
  if (able.length === 0)
    throw new Refusal(make(400, `'${named}' is on no Ollama server: it cannot be loaded or unloaded.`))
  const { keepAlive } = ask.request
  const unload = keepAlive === 0 || keepAlive === "0"
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
