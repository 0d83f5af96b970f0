// Network namespaces that are connected by a bridge, where this process may make them: each gateway and PostgreSQL have
// an address of their own then, and a line between two of them can be cut.
import { execFileSync, spawn } from "node:child_process"

const run = (...words) =>
  execFileSync(words[0], words.slice(1), { stdio: ["ignore", "pipe", "pipe"], encoding: "utf8" })

const names = []
let bridge
const tag = process.pid.toString(36)
const net = `10.${100 + (process.pid % 100)}.${(process.pid >> 7) % 250}`

/** Undoes all. */
export const remove = () => {
  for (const name of names.splice(0)) {
    try {
      run("ip", "netns", "del", name)
    } catch {}
  }
  if (bridge === undefined) return
  try {
    run("ip", "link", "del", bridge)
  } catch {}
  bridge = undefined
}

/** All on one address, where no line can be cut. */
export const alone = (why) => ({
  why,
  own: "127.0.0.1",
  host: () => "127.0.0.1",
  start: (_, command, args, options) => spawn(command, args, options),
  cut: undefined
})

/** A network of these hosts; `why` says why there are no namespaces, if there are none. */
export const make = (hosts) => {
  if (process.platform !== "linux" || process.getuid?.() !== 0) return alone("only root on Linux may make namespaces")
  try {
    bridge = `aic${tag}`.slice(0, 12)
    run("ip", "link", "add", bridge, "type", "bridge")
    run("ip", "addr", "add", `${net}.1/24`, "dev", bridge)
    run("ip", "link", "set", bridge, "up")
    hosts.forEach((host, i) => {
      const name = `aic-${tag}-${host}`
      run("ip", "netns", "add", name)
      names.push(name)
      const [outer, inner] = [`a${tag}${i}`.slice(0, 14), `b${tag}${i}`.slice(0, 14)]
      run("ip", "link", "add", outer, "type", "veth", "peer", "name", inner)
      run("ip", "link", "set", inner, "netns", name)
      run("ip", "link", "set", outer, "master", bridge)
      run("ip", "link", "set", outer, "up")
      run("ip", "-n", name, "addr", "add", `${net}.${10 + i}/24`, "dev", inner)
      run("ip", "-n", name, "link", "set", inner, "up")
      run("ip", "-n", name, "link", "set", "lo", "up")
    })
  } catch (error) {
    remove()
    return alone(String(error.stderr ?? error.message).trim())
  }
  const nameOf = (host) => `aic-${tag}-${host}`
  const addressOf = (host) => `${net}.${10 + hosts.indexOf(host)}`
  return {
    why: undefined,
    own: `${net}.1`,
    host: addressOf,
    start: (host, command, args, options) => spawn("ip", ["netns", "exec", nameOf(host), command, ...args], options),
    /** What `from` sends to `to` is lost without a word, until the line is mended. */
    cut: (from, to) => {
      run("ip", "-n", nameOf(from), "route", "add", "blackhole", `${addressOf(to)}/32`)
      return () => run("ip", "-n", nameOf(from), "route", "del", "blackhole", `${addressOf(to)}/32`)
    }
  }
}
