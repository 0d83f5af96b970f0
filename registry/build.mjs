// Writes the built-in catalogue: `node registry/build.mjs CATALOGUE_DIR`.
// Reads every *.json of CATALOGUE_DIR and writes one file per family beside this script: facts about models only,
// one record per line, in a stable order, so that a new catalogue is a readable diff.
import { readdirSync, readFileSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"

const facts = [
  "model_name",
  "family",
  "parameter_size",
  "quantization_level",
  "size",
  "context_length",
  "capabilities",
  "format"
]

const source = process.argv[2]
if (source === undefined) {
  console.error("usage: node registry/build.mjs CATALOGUE_DIR")
  process.exit(1)
}

const recordsOf = (json) => (Array.isArray(json) ? json : json.models ?? json.props?.pageProps?.models ?? [])
const order = (a, b) => (a < b ? -1 : a > b ? 1 : 0)

const families = new Map()
for (const file of readdirSync(source).filter((name) => name.endsWith(".json")).sort(order)) {
  for (const record of recordsOf(JSON.parse(readFileSync(join(source, file), "utf8")))) {
    const family = String(record.family ?? file.slice(0, -5)).toLowerCase()
    if (!/^[a-z0-9][a-z0-9_-]*$/.test(family)) throw new Error(`${file}: '${family}' cannot be a file name`)
    const kept = Object.fromEntries(
      facts.filter((key) => record[key] !== undefined && record[key] !== null).map((key) => [key, record[key]])
    )
    if (!families.has(family)) families.set(family, new Map())
    families.get(family).set(record.model_name, { ...kept, family })
  }
}

const target = dirname(fileURLToPath(import.meta.url))
let total = 0
for (const [family, models] of [...families].sort(([a], [b]) => order(a, b))) {
  const lines = [...models.values()].sort((a, b) => order(a.model_name, b.model_name)).map((r) => JSON.stringify(r))
  writeFileSync(join(target, `${family}.json`), `{"models":[\n${lines.join(",\n")}\n]}\n`)
  total += lines.length
  console.log(`${family}.json: ${lines.length} models`)
}
console.log(`${total} models`)
