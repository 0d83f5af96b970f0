/** The flags of `aicortex chat`. */
import * as Args from "@effect/cli/Args"
import type * as Command from "@effect/cli/Command"
import { defaults, OnInterrupt, Options, ThinkLevel } from "../../ChatRequest.js"
import { callFlags } from "../callFlags.js"
import * as Flags from "../flags.js"

/** Ranges, choices and defaults are those of the options of a call. */
const { fields } = Options

export const options = {
  model: Flags.model,
  stream: Flags.flag("stream", {
    alias: "s",
    about: "Print the answer while it is being written: the default on a terminal."
  }),
  noStream: Flags.flag("no-stream", { about: "Print the answer when it is complete, on a terminal too." }),
  image: Flags.texts("image", {
    value: "FILE",
    about: "An image for a model that sees: PNG, JPEG, WebP or GIF, at most 20 MiB. Repeatable."
  }),
  output: Flags.choice(
    "output",
    [
      ["json", "json"],
      ["jsonl", "jsonl"]
    ],
    {
      about:
        "json: the whole answer with its model, server, attempts, usage and times, as one JSON object; jsonl: each " +
        "event as it happens, in a line of its own."
    }
  ),
  temperature: Flags.number("temperature", fields.temperature.from, { alias: "t", default: defaults.temperature }),
  system: Flags.text("system", { value: "TEXT", about: "System prompt." }),
  persona: Flags.text("persona", { value: "NAME", about: "A system prompt of the configuration file, by its name." }),
  session: Flags.text("session", {
    value: "ID",
    about: "A conversation to continue: its id, as `aicortex sessions create` prints it."
  }),
  continue: Flags.flag("continue", { alias: "c", about: "Go on with the conversation that was used last." }),
  ...callFlags,
  onInterrupt: Flags.choice("on-interrupt", Flags.words(OnInterrupt.literals), {
    about:
      "What to do when a server breaks off in the middle of a streamed answer: another one continues from there, " +
      `or starts over, or the call fails. Default: ${defaults.onInterrupt}.`
  }),
  hedge: Flags.flag("hedge", {
    about: "Ask a second server too when the first one is late, and stop whichever is slower."
  }),
  json: Flags.json,
  schema: Flags.text("schema", {
    value: "FILE",
    about: "A JSON Schema that the answer must fit. Asks for JSON."
  }),
  maxTokens: Flags.number("max-tokens", fields.maxTokens.from, { about: "Maximum number of tokens." }),
  topP: Flags.number("top-p", fields.topP.from, { default: defaults.topP }),
  topK: Flags.number("top-k", fields.topK.from, { about: "Sample from this many tokens; 0: from all." }),
  minP: Flags.number("min-p", fields.minP.from),
  stop: Flags.texts("stop", { value: "TEXT", about: "Stop before this text." }),
  seed: Flags.number("seed", fields.seed.from, {
    about: "The same seed gives the same answer, where the server can."
  }),
  frequencyPenalty: Flags.number("frequency-penalty", fields.frequencyPenalty.from),
  presencePenalty: Flags.number("presence-penalty", fields.presencePenalty.from),
  repeatPenalty: Flags.number("repeat-penalty", fields.repeatPenalty.from, { about: "1 is none." }),
  think: Flags.choice("think", [["on", true], ["off", false], ...Flags.words(ThinkLevel.literals)], {
    about: "Whether, or how hard, a reasoning model thinks."
  }),
  raw: Flags.flag("raw", {
    about: "Complete the prompt as raw text, without a chat template."
  }),
  suffix: Flags.text("suffix", {
    value: "TEXT",
    about: "Fill in the middle between the prompt and this text. For models trained for it."
  }),
  cache: Flags.flag("cache", { about: "Return a cached answer to the same question, and cache this one." }),
  cacheTtl: Flags.seconds("cache-ttl", { about: "The same, with this lifetime. Default: 3600." }),
  noCache: Flags.flag("no-cache", { about: "Do not use the cache, even if the configuration enables it." }),
  interactive: Flags.flag("interactive", {
    alias: "i",
    about: "Start a conversation: each line of standard input is a question. Default on a terminal without a PROMPT."
  }),
  noStdin: Flags.flag("no-stdin", {
    alias: "n",
    about: "Do not read standard input, for use in a loop that reads it."
  }),
  verbose: Flags.flag("verbose", {
    alias: "v",
    about: "Print the model's thinking, the server and the speed on standard error."
  })
}

export const config = { ...options, prompt: Args.repeated(Args.text({ name: "PROMPT" })) }

/** The parsed flags. */
export type ChatFlags = Command.Command.ParseConfig<typeof config>
