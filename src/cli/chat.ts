/** `aicortex chat`: asks a model. */
import * as Command from "@effect/cli/Command"
import * as Effect from "effect/Effect"
import { config, options } from "./chat/flags.js"
import { type About, shape } from "./commandLine.js"

const about: About = {
  about: [
    "Ask a model, and print its answer.",
    "Without a prompt, on a terminal, it is a conversation: /help tells what can be done there.",
    "Piped text, or a file, is appended to the prompt; without a prompt, or with -, it is the prompt.",
    "Without --model it is AICORTEX_MODEL, else `model` in the configuration file, else the one that fits best of those that the servers have.",
    "With --json the model is asked for JSON, which is printed indented."
  ],
  takes: "[PROMPT]…",
  examples: [
    "aicortex chat",
    'aicortex chat "Why is the sky blue?"',
    'aicortex chat "What is in this picture?" --image photo.jpg',
    'aicortex chat "Why is the sky blue?" --output json | jq .usage',
    'git diff | aicortex chat "Write a commit message." --model qwen2.5-coder:7b',
    'aicortex chat "The capital of France?" --schema city.schema.json',
    "aicortex chat --raw --model qwen2.5-coder:1.5b-base --max-tokens 200 - < half.py"
  ]
}

export const chatShape = shape(about, options)

export const chat = Command.make("chat", config, (flags) =>
  Effect.flatMap(
    Effect.promise(() => import("./chat/run.js")),
    ({ run }) => run(flags)
  )
).pipe(Command.withDescription(about.about[0] ?? ""))
