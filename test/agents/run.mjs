/**
 * Runs real agents against the gateway: `npm run test:agents`. Further arguments go to vitest.
 *
 * What is installed comes from the npm registry, once. The tests then run where there is no network but loopback, if
 * the system lets us make such a place; every other address leads to a listener that notes who asked.
 */
import { spawnSync } from "node:child_process"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { install, run as runIn } from "../support/pinned.mjs"

const here = fileURLToPath(new URL(".", import.meta.url))
const root = fileURLToPath(new URL("../..", import.meta.url))

/** @type {(message: string) => void} */
const say = (message) => void process.stderr.write(`test:agents: ${message}\n`)

/** @type {(command: string, args: ReadonlyArray<string>) => number} */
const run = (command, args) => runIn(say, command, args, root)

/** Loopback and nothing else, where every address is one of this machine's own. */
const isolate =
  "ip link set lo up && ip route add local 0.0.0.0/0 dev lo && { ip -6 route add local ::/0 dev lo 2>/dev/null || :; }"

/** What a command is put behind so that it runs there; `undefined` where the system does not let us. */
const isolation = () =>
  [["-n"], ["-rn"]].find(
    (flags) => spawnSync("unshare", [...flags, "sh", "-c", isolate], { stdio: "ignore" }).status === 0
  )

const main = () => {
  if (process.platform !== "linux" || process.arch !== "x64") {
    say(`skipped: the agents are pinned for linux-x64, and this is ${process.platform}-${process.arch}.`)
    return 0
  }
  if (run(process.execPath, [join(root, "scripts/setup.mjs")]) !== 0) return 1
  install(say, here, "the agents, about 1 GB unpacked")
  const vitest = [
    join(root, "node_modules/vitest/vitest.mjs"),
    "run",
    "--config",
    join(here, "vitest.config.ts"),
    ...process.argv.slice(2)
  ]
  const flags = isolation()
  if (flags === undefined) {
    say("no network namespace can be made here (unshare, ip): what agents send elsewhere is only seen by a proxy.")
  }
  const [command, ...args] =
    flags === undefined
      ? [process.execPath, ...vitest]
      : ["unshare", ...flags, "sh", "-c", `${isolate} && exec "$@"`, "sh", process.execPath, ...vitest]
  const { status } = spawnSync(command ?? "", args, {
    cwd: root,
    stdio: "inherit",
    env: { ...process.env, AICORTEX_TEST_ISOLATED: flags === undefined ? "0" : "1" }
  })
  return status ?? 1
}

try {
  process.exitCode = main()
} catch (error) {
  say(error instanceof Error ? error.message : String(error))
  process.exitCode = 1
}
