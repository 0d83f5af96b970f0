/** Runs `aicortex show`. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { isObject } from "../../internal/isObject.js"
import { canonical } from "../../Model.js"
import * as Management from "../../management/models.js"
import { withModel } from "../../management/targets.js"
import { Registry } from "../../Registry.js"
import { Transport } from "../../Transport.js"
import { CommandFailed } from "../errors.js"
import * as Fleet from "../fleetLayer.js"
import * as Output from "../output.js"
import * as Table from "../table.js"
import * as Local from "./local.js"
import * as Servers from "./servers.js"
import * as Units from "./units.js"

type Fact = readonly [name: string, value: string | undefined]

const join = (value: unknown): string | undefined => (Array.isArray(value) ? Units.textOf(value.join(", ")) : undefined)

const firstLine = (value: unknown): string | undefined =>
  Units.textOf(
    Units.textOf(value)
      ?.split("\n")
      .find((line) => line.trim() !== "")
      ?.trim()
  )

/** The facts in a reply of `/api/show`. */
const factsOf = (reply: Management.Fields): ReadonlyArray<Fact> => {
  const details = isObject(reply["details"]) ? reply["details"] : {}
  const info = isObject(reply["model_info"]) ? reply["model_info"] : {}
  const architecture = Units.textOf(info["general.architecture"])
  const number = (name: string) => {
    const value = Units.numberOf(info[`${architecture}.${name}`])
    return value === undefined ? undefined : String(value)
  }
  return [
    ["Architecture", architecture],
    ["Parameters", Units.textOf(details["parameter_size"])],
    ["Quantization", Units.textOf(details["quantization_level"])],
    ["Context length", number("context_length")],
    ["Embedding length", number("embedding_length")],
    ["Capabilities", join(reply["capabilities"])],
    ["Options", Units.textOf(reply["parameters"])?.replace(/[ \t]+/g, " ")],
    ["System prompt", firstLine(reply["system"])],
    ["Licence", firstLine(reply["license"])]
  ]
}

const write = (facts: ReadonlyArray<Fact>) => {
  const known = facts.filter((fact): fact is readonly [string, string] => fact[1] !== undefined)
  return Output.write(Table.block(known))
}

interface Flags {
  readonly model: string
  readonly server: ReadonlyArray<string>
  readonly json: boolean
}

export const run = ({ json, model: given, server }: Flags) =>
  Effect.gen(function* () {
    const registry = yield* Registry
    const transport = yield* Transport
    const local = server.length === 0 ? yield* Local.find(given) : Option.none()
    if (Option.isSome(local)) {
      return json ? yield* Output.writeJson(local.value) : yield* write(Local.facts(local.value))
    }
    const model = yield* Servers.modelName("show", given)
    const chosen = yield* Servers.chosen(yield* Servers.servers, server)
    yield* Servers.reached(chosen)
    const have = withModel(
      chosen.filter(({ reachable }) => reachable),
      model
    )
    const [first] = have
    if (first === undefined) {
      if (server.length === 0) return yield* registry.missing(model)
      const urls = chosen.map(({ url }) => url).join(", ")
      return yield* new CommandFailed({
        message: chosen.length === 1 ? `${urls} does not have '${model}'` : `none of ${urls} has '${model}'`
      })
    }
    const urls = have.map(({ url }) => url)
    const from = have.find(({ ollama }) => ollama)
    const nameOn = ({ models }: Servers.ManagedServer) =>
      models.find((name) => canonical(name) === canonical(model)) ?? model
    if (from === undefined) {
      // OpenAI's protocol reports little; the catalogue may have more.
      const offer = (yield* registry.offers).find((one) => canonical(one.model) === canonical(model))
      const info = offer?.info ?? (yield* registry.modelInfo(model))
      yield* Output.notice(`${first.url} ${Servers.unable(first, "describe a model")}: what is known from elsewhere`)
      if (json) return yield* Output.writeJson({ ...info, model: nameOn(first), server: first.url, servers: urls })
      return yield* write([
        ["Model", nameOn(first)],
        ["Servers", urls.join(", ")],
        ["Family", info.family === "others" ? undefined : info.family],
        ["Parameters", info.parameter_size],
        ["Quantization", info.quantization_level],
        ["Context length", info.context_length === undefined ? undefined : String(info.context_length)],
        ["Capabilities", join(info.capabilities)]
      ])
    }
    const name = nameOn(from)
    const reply = yield* Servers.request(() => Management.show(transport, from.server, { model: name })).pipe(
      Effect.mapError(({ message }) => new CommandFailed({ message: `${from.url} does not describe it: ${message}` }))
    )
    if (json) return yield* Output.writeJson({ ...reply, model: name, server: from.url, servers: urls })
    const [list] = yield* Effect.promise(() => Management.listAll(transport, [from], "/api/tags"))
    const size = Units.numberOf(
      list?.models?.find((item) => canonical(String(item["name"])) === canonical(name))?.["size"]
    )
    yield* write([
      ["Model", name],
      ["Servers", urls.join(", ")],
      ["Size", size === undefined ? undefined : Units.bytes(size)],
      ...factsOf(reply)
    ])
  }).pipe(Effect.provide(Fleet.layer))
