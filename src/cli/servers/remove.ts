/** `aicortex servers remove`: removes a server from the configuration file. */
import * as Args from "@effect/cli/Args"
import * as Command from "@effect/cli/Command"
import * as Effect from "effect/Effect"
import * as ConfigFile from "../../config/file.js"
import { type About, shape } from "../commandLine.js"
import { CommandFailed } from "../errors.js"
import * as Output from "../output.js"
import { removeServer } from "./editFile.js"

const about: About = {
  about: ["Remove a server from the configuration file."],
  takes: "URL",
  examples: ["aicortex servers remove http://gpu-1:11434"]
}

export const removeShape = shape(about, {})

export const remove = Command.make(
  "remove",
  { url: Args.text({ name: "URL" }) },
  Effect.fnUntraced(function* ({ url }) {
    const file = yield* ConfigFile.filePath
    if (!(yield* removeServer(file, url))) {
      return yield* new CommandFailed({ message: `${file} names no server ${url}` })
    }
    yield* Output.write(`Removed ${url} from ${file}.\n`)
  })
).pipe(Command.withDescription(about.about[0] ?? ""))
