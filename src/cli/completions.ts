/**
 * The completion scripts of `@effect/cli`, without its built-in flags that this command line rejects, and with
 * subcommand names as they are typed.
 */

/** Flags that no command takes, and those that only `aicortex` itself takes. */
const never = "log-level|wizard"
const above = "completions|version"

const bash = (script: string): string =>
  script
    // A case label consists of the command so far, `aicortex__servers`, and the next word, in which hyphens were
    // replaced as well.
    .replace(
      /^( *)(aicortex(?:,[a-z_]+)*),([a-z_]+)\)$/gm,
      (_, indent: string, path: string, word: string) =>
        `${indent}${path.replaceAll(",", "__")},${word.replaceAll("__", "-")})`
    )
    .replace(/opts="[^"]*"/g, (opts) => {
      const left = opts.replace(new RegExp(` --(${never})\\b`, "g"), "")
      return left.includes(" chat ") ? left : left.replace(new RegExp(` --(${above})\\b`, "g"), "")
    })

const zsh = (script: string): string => {
  const [top = "", ...rest] = script.split("case $state in")
  const without = (text: string, names: string) => text.replace(new RegExp(`^ *'--(${names})\\[.*\\n`, "gm"), "")
  return [without(top, never), ...rest.map((text) => without(text, `${never}|${above}`))].join("case $state in")
}

const fish = (script: string): string =>
  script
    .split("\n")
    .filter((line) => {
      const [, name = ""] = / -l ([a-z-]+)/.exec(line) ?? []
      if (never.split("|").includes(name)) return false
      return !(above.split("|").includes(name) && line.includes("__fish_seen_subcommand_from"))
    })
    .join("\n")

/** The adapted completion script for a shell; `undefined` for an unsupported shell. */
export const shells: { readonly [shell: string]: (script: string) => string } = { bash, zsh, fish }
