/** `aicortex completions`: the scripts that make a shell complete command lines. */
import * as Args from "@effect/cli/Args"
import * as Command from "@effect/cli/Command"
import * as Effect from "effect/Effect"
import { type About, shape } from "./commandLine.js"
import { scripts } from "./completions/scripts.js"
import { UsageError } from "./errors.js"
import * as Output from "./output.js"

const about: About = {
  about: [
    "Print the script that makes bash, zsh or fish complete commands, flags, models, servers and conversations.",
    "bash: put the line `source <(aicortex completions bash)` into ~/.bashrc.",
    "zsh: put the line `source <(aicortex completions zsh)` into ~/.zshrc, below the one that calls compinit.",
    "fish: `aicortex completions fish > ~/.config/fish/completions/aicortex.fish`. Then open a new shell."
  ],
  takes: "SHELL",
  examples: ["source <(aicortex completions bash)", "aicortex completions fish > aicortex.fish"]
}

export const completionsShape = shape(about, {})

/** Writes the script for a shell; `name` is what named the shell, for the error. */
export const print = (
  name: string,
  shell: string,
  command: ReadonlyArray<string>
): Effect.Effect<void, UsageError | Output.WriteError> => {
  const script = Object.hasOwn(scripts, shell) ? scripts[shell] : undefined
  if (script !== undefined) return Output.write(script)
  const message = `${name} must be one of ${Object.keys(scripts).join(", ")}, not '${shell}'`
  return Effect.fail(new UsageError({ message, command }))
}

export const completions = Command.make("completions", { shell: Args.text({ name: "SHELL" }) }, ({ shell }) =>
  print("SHELL", shell, ["completions"])
).pipe(Command.withDescription(about.about[0] ?? ""))
