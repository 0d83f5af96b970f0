/**
 * The guard of an engine that does not watch its standard input: it starts the engine and ends it when its own input
 * ends, which happens however the process that started it ends.
 */

/** Run by `node -e`; its argument is `{ file, args, cleanup, cleanupTimeout, gracePeriod }` as JSON. */
export const guardScript = `
const { spawn, spawnSync } = require("node:child_process")
const { file, args, cleanup, cleanupTimeout, gracePeriod } = JSON.parse(process.argv[1])
const clean = () => {
  if (cleanup !== undefined) spawnSync(cleanup.file, cleanup.args, { stdio: "ignore", timeout: cleanupTimeout })
}
// What one that was killed has left behind would be in the way.
clean()
const child = spawn(file, args, { stdio: ["ignore", "inherit", "inherit"], windowsHide: true })
let stopping = false
const stop = () => {
  if (stopping) return
  stopping = true
  child.kill("SIGTERM")
  setTimeout(() => child.kill("SIGKILL"), gracePeriod).unref()
}
process.stdin.on("end", stop).on("error", stop).resume()
for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"]) process.on(signal, stop)
child.on("error", (error) => {
  console.error(error.message)
  process.exit(127)
})
child.on("exit", (code, signal) => {
  clean()
  if (signal !== null && !stopping) console.error("ended by " + signal)
  process.exit(code ?? (stopping ? 0 : 128))
})
`
