/**
 * `aicortex servers remove`: removes a server from the configuration file.
 *
 * @since 0.1.0
 */
import * as Args from "@effect/cli/Args"
import * as Command from "@effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Config from "../cortex/config.js"
import { withExamples } from "./examples.js"
import { CommandFailed } from "./failure.js"
import * as Output from "./output.js"

const url = Args.text({ name: "URL" }).pipe(Args.withDescription("Its address."))

/**
 * @since 0.1.0
 * @category commands
 */
export const command = Command.make(
  "remove",
  { url },
  Effect.fnUntraced(function* ({ url }) {
    const file = yield* Config.filePath
    if (!(yield* Config.removeServer(file, url))) {
      return yield* new CommandFailed({ message: `${file} names no server ${url}` })
    }
    yield* Output.write(`Removed ${url} from ${file}.\n`)
  })
).pipe(
  Command.withDescription(
    withExamples("Remove a server from the configuration file.", ["aicortex servers remove http://gpu-1:11434"])
  )
)
