/**
 * What it costs to start the command line, and to import the package and others of its kind, next to bare Node.
 *
 * Wall time is from spawn to exit. The kernel counts the CPU of ended children in ticks of 10 ms, so CPU is a mean over
 * the rounds; it is there on Linux only.
 */
import { spawn } from "node:child_process"
import { existsSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { shuffle } from "./harness.js"

export interface Start {
  readonly wall: number
  readonly cpu: number
}

export interface Startup {
  readonly title: string
  readonly starts: ReadonlyArray<Start>
}

/** User and system time of the children waited for so far, in milliseconds. */
const childrenCpu = (): number => {
  try {
    const stat = readFileSync("/proc/self/stat", "utf8")
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ")
    return (Number(fields[13]) + Number(fields[14])) * 10
  } catch {
    return Number.NaN
  }
}

const env: NodeJS.ProcessEnv = { ...process.env }
for (const name of Object.keys(env)) if (name === "NODE_OPTIONS" || name.startsWith("BENCH_")) delete env[name]

/** Other clients of language models. */
export const others = ["ollama", "openai", "ai"] as const

const importing = (name: string) => ({
  title: `import "${name}"`,
  args: ["--input-type=module", "-e", `import ${JSON.stringify(name)}`],
  expected: ""
})

const run = (
  cwd: string,
  args: ReadonlyArray<string>
): Promise<Start & { readonly code: number | null; readonly stdout: string }> =>
  new Promise((resolve, reject) => {
    const cpuBefore = childrenCpu()
    const began = performance.now()
    const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"], env, cwd })
    let wall = 0
    let stdout = ""
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      stdout += text
    })
    child.once("error", reject)
    child.once("exit", () => {
      wall = performance.now() - began
    })
    child.once("close", (code) => resolve({ wall, cpu: childrenCpu() - cpuBefore, code, stdout }))
  })

/** Fails where the command line does not answer as it must; gives `undefined` where it is not built. */
export const measureStartup = async (root: string, rounds: number): Promise<ReadonlyArray<Startup> | undefined> => {
  const bin = join(root, "dist", "bin.js")
  const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { readonly version: string }
  const built = existsSync(bin) && existsSync(join(root, "dist", "bundle", "promise.js"))
  const commands = [
    { title: "node -e 0", args: ["-e", "0"], expected: "" },
    ...(built
      ? [
          { title: "aicortex --version", args: [bin, "--version"], expected: version },
          { title: "aicortex --help", args: [bin, "--help"], expected: "aicortex" },
          ...["aicortex/promise", "aicortex", ...others].map(importing)
        ]
      : [])
  ]
  for (const { title, args, expected } of commands) {
    const { code, stdout } = await run(root, args)
    if (code !== 0 || !stdout.includes(expected)) throw new Error(`\`${title}\` ended with ${code}: ${stdout}`)
  }
  const starts = commands.map((): Array<Start> => [])
  for (let round = 0; round < rounds; round++) {
    for (const index of shuffle(commands.map((_, index) => index))) {
      const { wall, cpu } = await run(root, commands[index]?.args ?? [])
      starts[index]?.push({ wall, cpu })
    }
  }
  return built ? commands.map(({ title }, index) => ({ title, starts: starts[index] ?? [] })) : undefined
}
