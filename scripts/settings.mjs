/**
 * Writes what is made from the declarations of the settings in src/config/:
 *
 *   docs/*.md              the tables between `<!-- settings: NAME -->` and `<!-- /settings -->`
 *   config.schema.json     the JSON Schema of the configuration file
 *   servers.schema.json    the JSON Schema of a list of servers
 *   src/config/*.ts        the comment above each declaration, which editors show for the option
 *
 *   node scripts/settings.mjs           writes what is out of date
 *   node scripts/settings.mjs --check   fails where anything is
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath, pathToFileURL } from "node:url"

const root = fileURLToPath(new URL("..", import.meta.url))

/** The modules as they are now: bundled in memory, because dist/ may be older. */
const load = async () => {
  const { build } = await import("esbuild")
  const entry = `
    export { configSchema, tables } from "./src/config/document.ts"
    export { serversSchema } from "./src/registry/pipeline/serversFile.ts"
    export { descriptionOf, unitOf } from "./src/config/setting.ts"
    export { fleet, ownDefaults } from "./src/config/fleet.ts"
    export { gateway } from "./src/config/gateway.ts"
    export { registryUrl } from "./src/config/registry.ts"
    export { server } from "./src/config/server.ts"
  `
  const outfile = join(root, "node_modules/.cache/aicortex", `settings-${process.pid}.mjs`)
  await build({
    stdin: { contents: entry, resolveDir: root, loader: "ts" },
    bundle: true,
    format: "esm",
    platform: "node",
    packages: "external",
    outfile,
    logLevel: "error"
  })
  const modules = await import(pathToFileURL(outfile).href)
  const { rmSync } = await import("node:fs")
  rmSync(outfile)
  return modules
}

const width = 120

/** @param {string} text */
const comment = (text) => {
  if (text.length + 9 <= width) return `  /** ${text} */\n`
  const lines = [""]
  for (const word of text.split(" ")) {
    const last = lines.at(-1) ?? ""
    if (last.length + word.length + 6 > width) lines.push(word)
    else lines[lines.length - 1] = last === "" ? word : `${last} ${word}`
  }
  return `  /**\n${lines.map((line) => `   * ${line}\n`).join("")}   */\n`
}

/**
 * The source with the comment that belongs above each declaration.
 *
 * @param {string} source
 * @param {ReadonlyArray<{ readonly [name: string]: { readonly doc: string } }>} groups
 * @param {(setting: any) => string} describe
 */
const commented = (source, groups, describe) => {
  let text = source
  for (const group of groups) {
    for (const [name, setting] of Object.entries(group)) {
      const line = new RegExp(`(?:  /\\*\\*(?:(?!\\*/)[\\s\\S])*\\*/\\n)?(  ${name}: setting\\()`)
      if (!line.test(text)) throw new Error(`There is no declaration of ${name}.`)
      text = text.replace(line, (_, declaration) => `${comment(describe(setting))}${declaration}`)
    }
  }
  return text
}

/**
 * The page with its tables as they should be.
 *
 * @param {string} path
 * @param {{ readonly [name: string]: string }} tables
 */
const tabled = (path, tables) =>
  readFileSync(join(root, path), "utf8").replace(
    /(<!-- settings: (\w+)[^>]*-->\n)[\s\S]*?(<!-- \/settings -->)/g,
    (_, begin, name, end) => `${begin}\n${tables[name] ?? ""}\n\n${end}`
  )

/** What each file should hold, by its path. */
export const files = async () => {
  const {
    configSchema,
    descriptionOf,
    fleet,
    gateway,
    ownDefaults,
    registryUrl,
    server,
    serversSchema,
    tables,
    unitOf
  } = await load()
  const describe = (/** @type {any} */ setting) =>
    unitOf(setting) === "ms" ? `${descriptionOf(setting)} In milliseconds.` : descriptionOf(setting)
  const source = (/** @type {string} */ path, /** @type {any[]} */ ...groups) =>
    commented(readFileSync(join(root, path), "utf8"), groups, describe)
  return {
    "docs/settings.md": tabled("docs/settings.md", tables()),
    "docs/registry.md": tabled("docs/registry.md", tables()),
    "docs/servers.md": tabled("docs/servers.md", tables()),
    "config.schema.json": `${JSON.stringify(configSchema(), undefined, 2)}\n`,
    "servers.schema.json": `${JSON.stringify(serversSchema(), undefined, 2)}\n`,
    "src/config/fleet.ts": source("src/config/fleet.ts", fleet, ownDefaults),
    "src/config/gateway.ts": source("src/config/gateway.ts", gateway),
    "src/config/registry.ts": source("src/config/registry.ts", registryUrl),
    "src/config/server.ts": source("src/config/server.ts", server)
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  for (const [path, text] of Object.entries(await files())) {
    const file = join(root, path)
    let now = ""
    try {
      now = readFileSync(file, "utf8")
    } catch {
      // There is none yet.
    }
    if (now === text) continue
    if (process.argv.includes("--check")) {
      process.stderr.write(`${path} is out of date: run \`npm run docs:settings\`.\n`)
      process.exitCode = 1
    } else {
      mkdirSync(dirname(file), { recursive: true })
      writeFileSync(file, text)
      process.stdout.write(`wrote ${path}\n`)
    }
  }
}
