/**
 * Makes a fresh clone ready, and does nothing when it is.
 *
 *   node scripts/setup.mjs             installs the dependencies and builds the command line, where missing or stale
 *   node scripts/setup.mjs --install   only the dependencies
 *   node scripts/setup.mjs --all       the library in dist/ as well
 *   … --shell                          prints what makes a shell know the command: eval "$(npm run -s setup)"
 */
import { spawnSync } from "node:child_process"
import { lstatSync, readdirSync, readFileSync, statSync, utimesSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("..", import.meta.url))
const say = (/** @type {string} */ message) => process.stderr.write(`aicortex: ${message}\n`)

/** When a file or directory changed, 0 if it does not exist. */
const changed = (/** @type {string} */ path) => statSync(join(root, path), { throwIfNoEntry: false })?.mtimeMs ?? 0

/**
 * When anything below a directory changed; a removed file changes its directory.
 *
 * @type {(path: string, ...except: Array<string>) => number}
 */
const newest = (path, ...except) =>
  readdirSync(join(root, path), { withFileTypes: true }).reduce((latest, entry) => {
    const below = `${path}/${entry.name}`
    if (except.includes(below)) return latest
    return Math.max(latest, entry.isDirectory() ? newest(below, ...except) : changed(below))
  }, changed(path))

/** npm notes here what it installed, in the words of package-lock.json. */
const installed = "node_modules/.package-lock.json"

/** Whether all that the lock file names is installed; what is optional may be for another platform. */
const isInstalled = () => {
  const [is, wanted] = [installed, "package-lock.json"].map((path) =>
    JSON.parse(readFileSync(join(root, path), "utf8"))
  )
  return Object.entries(wanted.packages).every(
    ([path, { optional, version }]) =>
      path === "" || (is.packages[path]?.version ?? (optional ? version : "")) === version
  )
}

const install = () => {
  if (changed(installed) >= changed("package-lock.json")) return
  // npm ci would empty the directory that a link leads to, which belongs to somebody else.
  if (lstatSync(join(root, "node_modules"), { throwIfNoEntry: false })?.isSymbolicLink()) return
  // A checkout touches files that it does not change.
  if (changed(installed) > 0 && isInstalled()) return utimesSync(join(root, installed), new Date(), new Date())
  say("installing the dependencies (npm ci), once…")
  const args = ["ci", "--include=dev", "--include=optional", "--loglevel=error", "--no-progress"]
  // npm tells the scripts that it runs where it is; on Windows npm itself is not a program that could be started.
  const npm = process.env.npm_execpath?.endsWith("npm-cli.js")
    ? { command: process.execPath, args: [process.env.npm_execpath, ...args] }
    : { command: "npm", args }
  const result = spawnSync(npm.command, npm.args, {
    cwd: root,
    stdio: ["ignore", "ignore", 2],
    shell: npm.command === "npm" && process.platform === "win32"
  })
  if (result.status !== 0) throw new Error("npm ci failed; its words stand above.")
}

const build = async () => {
  const inputs = ["build", "bundle", "dashboard", "declarations", "notices"].map((name) => `scripts/${name}.mjs`)
  inputs.push("package.json", "package-lock.json")
  const tools = Math.max(...inputs.map(changed))
  const libIsStale =
    process.argv.includes("--all") &&
    changed("dist/index.js") < Math.max(tools, newest("src", "src/cli", "src/dashboard"))
  const binIsStale = changed("dist/bin.js") < Math.max(tools, newest("src", "src/dashboard"))
  const pageIsStale = changed("dist/dashboard/index.html") < Math.max(tools, newest("src/dashboard"))
  if (!libIsStale && !binIsStale && !pageIsStale) return
  const { buildBin, buildLib, buildPage } = await import("./build.mjs")
  if (pageIsStale) {
    say("building the page…")
    await buildPage()
  }
  if (binIsStale) {
    say("building the command line…")
    await buildBin()
  }
  if (libIsStale) {
    say("building the library…")
    await buildLib()
  }
}

try {
  install()
  if (!process.argv.includes("--install")) await build()
  if (process.argv.includes("--shell")) {
    const bin = join(root, "dist", "bin.js").replaceAll("'", "'\\''")
    process.stdout.write(`aicortex() { node '${bin}' "$@"; }\n`)
  }
} catch (error) {
  say(error instanceof Error ? error.message : String(error))
  process.exitCode = 1
}
