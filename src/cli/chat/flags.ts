/**
 * The flags of `aicortex chat`.
 *
 * @since 0.1.0
 */
import * as Args from "@effect/cli/Args"
import type * as Command from "@effect/cli/Command"
import { callFlags } from "../callFlags.js"
import * as Flags from "../flags.js"

/**
 * @since 0.1.0
 * @category models
 */
export const options = {
  model: Flags.text("model", {
    alias: "m",
    value: "NAME",
    about: "The model to ask. Default: AICORTEX_MODEL, else `model` in the configuration file, else llama3.2:3b."
  }),
  stream: Flags.flag("stream", { alias: "s", about: "Print the answer while it is being written." }),
  temperature: Flags.number("temperature", { alias: "t", about: "0 to 2, default 0.7." }),
  system: Flags.text("system", { value: "TEXT", about: "System prompt." }),
  persona: Flags.text("persona", { value: "NAME", about: "A system prompt of the configuration file, by its name." }),
  session: Flags.text("session", {
    value: "ID",
    about: "A conversation to go on with: its id, as `aicortex sessions create` prints it."
  }),
  ...callFlags,
  onInterrupt: Flags.choice(
    "on-interrupt",
    [
      ["resume", "resume"],
      ["restart", "restart"],
      ["fail", "fail"]
    ],
    {
      about:
        "What to do when a server breaks off in the middle of a streamed answer: another one goes on from there, " +
        "or begins anew, or the call fails. Default: resume."
    }
  ),
  hedge: Flags.flag("hedge", {
    about: "Ask a second server too when the first one is late, and stop whichever is slower."
  }),
  json: Flags.flag("json", { about: "Ask for JSON, and print it indented." }),
  schema: Flags.text("schema", {
    value: "FILE",
    about: "A JSON Schema that the answer must fit. Asks for JSON."
  }),
  maxTokens: Flags.whole("max-tokens", { about: "At most so many tokens." }),
  topP: Flags.number("top-p", { about: "0 to 1, default 1." }),
  topK: Flags.whole("top-k", { about: "Choose among so many tokens." }),
  minP: Flags.number("min-p", { about: "0 to 1." }),
  stop: Flags.texts("stop", { value: "TEXT", about: "Stop before this text." }),
  seed: Flags.whole("seed", { about: "The same seed gives the same answer, where the server can." }),
  frequencyPenalty: Flags.number("frequency-penalty", { about: "-2 to 2." }),
  presencePenalty: Flags.number("presence-penalty", { about: "-2 to 2." }),
  repeatPenalty: Flags.number("repeat-penalty", { about: "Above 0; 1 is none." }),
  think: Flags.choice(
    "think",
    [
      ["on", true],
      ["off", false],
      ["low", "low"],
      ["medium", "medium"],
      ["high", "high"],
      ["max", "max"]
    ],
    { about: "Whether, or how hard, a reasoning model thinks." }
  ),
  raw: Flags.flag("raw", {
    about: "Go on with the prompt as a text: it goes to the model as it is, without a chat template."
  }),
  suffix: Flags.text("suffix", {
    value: "TEXT",
    about: "Fill in what stands between the prompt and this text. For models that were trained for it."
  }),
  cache: Flags.flag("cache", { about: "Give a kept answer to the very same question, and keep this one." }),
  cacheTtl: Flags.seconds("cache-ttl", { about: "The same, for so long. Default: 3600." }),
  noCache: Flags.flag("no-cache", { about: "Ask anew, also where the configuration says `cache`." }),
  interactive: Flags.flag("interactive", {
    alias: "i",
    about: "Hold a conversation: each line of standard input is a question. So it is on a terminal without a PROMPT."
  }),
  noStdin: Flags.flag("no-stdin", {
    alias: "n",
    about: "Leave standard input alone, as in a loop that reads its own."
  }),
  verbose: Flags.flag("verbose", {
    alias: "v",
    about: "Tell on standard error what the model thinks, which server answers, and how fast."
  })
}

/**
 * @since 0.1.0
 * @category models
 */
export const config = { ...options, prompt: Args.repeated(Args.text({ name: "PROMPT" })) }

/**
 * The flags as they were given.
 *
 * @since 0.1.0
 * @category models
 */
export type Given = Command.Command.ParseConfig<typeof config>
