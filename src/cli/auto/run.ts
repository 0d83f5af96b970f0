/** Runs `aicortex auto`. */
import * as Effect from "effect/Effect"
import * as Conditions from "../../Conditions.js"
import { checkCall } from "../../chat/check.js"
import type { Decision } from "../../Decision.js"
import { single } from "../../Decision.js"
import { NoSuitableModel } from "../../Errors.js"
import type { ImagePart, TextPart } from "../../Message.js"
import { type ModelCandidate, ModelSelection } from "../../ModelSelection.js"
import { automatic } from "../../modelSelection/candidate.js"
import { Registry } from "../../Registry.js"
import { isLocal } from "../../Server.js"
import { CurrentSettings } from "../../Settings.js"
import * as Image from "../chat/imageFile.js"
import { readSchema } from "../chat/schemaFile.js"
import { UsageError } from "../errors.js"
import * as Fleet from "../fleetLayer.js"
import * as Output from "../output.js"
import * as Stdin from "../stdin.js"
import * as Table from "../table.js"
import type { AutoFlags } from "./flags.js"

/** Stands for the tools of a call: what they are does not matter for the choice. */
const anyTool = { name: "tool", description: "A tool.", parameters: { type: "object", properties: {} } }

const decisionOf = ([first]: ReadonlyArray<ModelCandidate>): Decision | undefined => {
  if (first === undefined) return undefined
  const { model, reason = "", selection } = first
  if (selection === undefined) return single(automatic, { model, server: "" }, reason)
  const [best = { model, server: "" }] = selection.candidates
  const { asked, candidates, conditions, excluded } = selection
  return { asked, chosen: { model: best.model, server: best.server }, reason, candidates, excluded, conditions }
}

const jsonOf = ({ conditions: { lines, resources }, ...decision }: Decision) => ({
  ...decision,
  conditions: {
    resources: resources === undefined ? null : { state: resources.state, reason: resources.reason },
    lines: lines.map(({ reason, server, state }) => ({ server, state, reason }))
  }
})

const rows = (pairs: ReadonlyArray<{ readonly model: string; readonly server: string; readonly reason: string }>) =>
  pairs.map(({ model, reason, server }) => [model, server, reason === "" ? "-" : reason])

const textOf = ({ candidates, chosen, conditions: { lines, resources }, excluded, reason }: Decision): string => {
  const at = chosen.server === "" ? "" : ` at ${chosen.server}`
  const machine = resources === undefined ? [] : [["This machine", resources.state, resources.reason || "-"]]
  const conditions = [...machine, ...lines.map(({ reason, server, state }) => [server, state, reason || "-"])]
  return [
    `${Output.bold(chosen.model, process.stdout)}${at}: ${reason}\n`,
    candidates.length === 0 ? "" : `\n${Table.table(["Model", "Server", "Why here"], rows(candidates), "Why here")}`,
    excluded.length === 0 ? "" : `\n${Table.table(["Left out", "Server", "Why"], rows(excluded), "Why")}`,
    conditions.length === 0 ? "" : `\n${Table.table(["Conditions", "State", "Why"], conditions, "Why")}`
  ].join("")
}

export const run = Effect.fnUntraced(function* (flags: AutoFlags) {
  const { explain, image, json, maxTokens, prefer, private: localOnly, prompt: words, schema, tools } = flags
  const text = words.length === 1 && words[0] === "-" ? yield* Stdin.all : words.join(" ")
  if (text.trim() === "") return yield* new UsageError({ message: "there is no prompt: give one", command: ["auto"] })
  const decoder = schema === undefined ? undefined : yield* readSchema(schema)
  const images = yield* Effect.forEach(image, Image.read)
  const content: ReadonlyArray<TextPart | ImagePart> = [{ type: "text", text }, ...images.map(({ part }) => part)]
  const options = {
    model: automatic,
    ...(tools ? { tools: [anyTool] } : {}),
    ...(maxTokens === undefined ? {} : { maxTokens }),
    ...(localOnly === undefined ? {} : { private: localOnly })
  }
  const decide = Effect.gen(function* () {
    const settings = yield* CurrentSettings
    const selection = yield* ModelSelection
    const registry = yield* Registry
    // The output is about the whole fleet, in its current state.
    const servers = yield* registry.servers
    if (settings.servers.some((server) => !server.implicit && !isLocal(server))) yield* Conditions.snapshot
    const select: typeof selection.select = (name, asked, policy) =>
      selection.select(name, asked, prefer === undefined ? policy : { ...policy, prefer })
    const format = decoder === undefined ? "text" : (decoder.jsonSchema ?? "json")
    const { models } = yield* checkCall([{ role: "user", content }], options, format, settings, { select })
    const decision = decisionOf(yield* models)
    if (decision === undefined) return yield* new NoSuitableModel({ lacks: [], servers: [] })
    for (const { problem, reachable, url } of servers) {
      if (!reachable) yield* Output.notice(`${url} could not be asked (${problem ?? "it has not answered"})`)
    }
    if (json) return yield* Output.writeJson(jsonOf(decision))
    return yield* explain ? Output.write(textOf(decision)) : Output.writeLine(`${decision.chosen.model}\n`)
  })
  yield* Effect.provide(decide, Fleet.layer)
})
