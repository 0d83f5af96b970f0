/** Runs `aicortex service install`. */
import { writeFileSync } from "node:fs"
import { homedir } from "node:os"
import { join } from "node:path"
import * as Effect from "effect/Effect"
import { commandLine } from "../../cortex/engineSystem.js"
import { environment } from "../../cortex/environment.js"
import { makeFolderSync } from "../../internal/makeFolderSync.js"
import { defaultPort } from "../../supervisor/port.js"
import { CommandFailed } from "../errors.js"
import * as Output from "../output.js"

/** A word of a command in a unit: systemd expands `%` and `$`, and splits at blanks. */
const quoted = (word: string): string =>
  `"${word.replace(/[\\"]/g, "\\$&").replaceAll("%", "%%").replaceAll("$", "$$$$")}"`

const unit = (command: ReadonlyArray<string>): string => `[Unit]
Description=Models of this machine (aicortex)
After=network.target

[Service]
ExecStart=${command.map(quoted).join(" ")}
Restart=on-failure
RestartSec=2
KillMode=mixed
TimeoutStopSec=30
UMask=0077

[Install]
WantedBy=default.target
`

export const install = Effect.fnUntraced(function* ({ port = defaultPort }: { readonly port: number | undefined }) {
  const command = commandLine()
  if (command === undefined)
    return yield* new CommandFailed({ message: "the command line of this package is not built" })
  const folder = join(environment("XDG_CONFIG_HOME") ?? join(homedir(), ".config"), "systemd", "user")
  const file = join(folder, "aicortex.service")
  yield* Effect.try({
    try: () => {
      makeFolderSync(folder)
      writeFileSync(file, unit([command.file, ...command.args, "start", "--foreground", "--port", String(port)]))
    },
    catch: (cause) => new CommandFailed({ message: `${file} cannot be written: ${String(cause)}` })
  })
  yield* Output.write(`${file}\n`)
  yield* Output.notice(
    "start it now and at each login: systemctl --user daemon-reload && systemctl --user enable --now aicortex"
  )
  yield* Output.notice("to have it from boot on, without a login: loginctl enable-linger")
})
