/**
 * Imports point down only. Every module under src/ stands on exactly one floor; a new one is entered here. An entry that
 * matches no module fails `npm run lint`.
 */

/** `stands("Registry")` matches src/Registry.ts, and src/registry/ where its parts are. */
const stands = (/** @type {string[]} */ ...modules) =>
  modules.map((name) => `^src/(${name}\\.ts$|${name[0]?.toLowerCase()}${name.slice(1)}/)`)

const internal = ["^src/internal/"]
const domain = stands(
  "Model",
  "Server",
  "Message",
  "ChatRequest",
  "ChatEvent",
  "Decision",
  "EmbedRequest",
  "CallDefaults",
  "Errors"
)
const config = ["^src/config/"]
const services = [
  ...config,
  ...stands(
    "Transport",
    "Backend",
    "Registry",
    "RegistryPipeline",
    "ModelSelection",
    "ModelStore",
    "Management",
    "Conditions",
    "Engines",
    "LocalModels",
    "Servers",
    "Router",
    "Fleet",
    "Failover",
    "Sessions",
    "Store",
    "History",
    "StructuredOutput",
    "ResponseCache",
    "Probes",
    "Settings",
    "Telemetry"
  )
]
const features = stands("Benchmark", "Chat", "Embeddings", "Execute")
const surfaces = [
  ...stands("Cortex", "Gateway", "LocalModel"),
  "^src/supervisor/",
  "^src/(index|promise|browser)\\.ts$",
  "^src/(promise|browser|cli)/"
]
/** The page runs in a browser, and knows the gateway by its endpoints and the types of what they tell. */
const page = ["^src/dashboard/"]
const all = [...page, ...internal, ...domain, ...services, ...features, ...surfaces]

/** The only places that may know Node: the rest runs anywhere, a browser included. */
const embedded = ["^src/backend/embedded[^/]*\\.ts$"]
const knowsNode = [
  ...stands("Cortex", "Gateway", "LocalModel"),
  "^src/supervisor/",
  "^src/(index|promise)\\.ts$",
  "^src/cli/",
  ...embedded,
  "^src/internal/makeFolderSync\\.ts$",
  "^src/store/(postgres|sqlite)\\.ts$",
  "^src/transport/(byRuntime|connections|contentEncoding|undici)\\.ts$"
]

/** Matches a package, whether it is installed or not. */
const packages = (/** @type {string} */ pattern) => `(^|/)${pattern}(/|$)`

const floor = (
  /** @type {string} */ name,
  /** @type {string[]} */ from,
  /** @type {string[]} */ above,
  /** @type {string} */ comment
) => ({ name, severity: /** @type {const} */ ("error"), comment, from: { path: from }, to: { path: above } })

/** @type {import("dependency-cruiser").IConfiguration} */
export default {
  forbidden: [
    floor(
      "internal-imports-internal-and-domain-only",
      internal,
      [...services, ...features, ...surfaces],
      "src/internal/ is the lowest floor: move what it needs down, or the module up."
    ),
    floor(
      "domain-imports-domain-only",
      domain,
      [...services, ...features, ...surfaces],
      "The domain is plain data and pure functions: it knows no service."
    ),
    floor(
      "services-import-no-features",
      services,
      [...features, ...surfaces],
      "A service knows no feature or surface."
    ),
    floor("features-import-no-surfaces", features, surfaces, "A feature knows no surface."),
    {
      name: "every-module-has-a-floor",
      severity: "error",
      comment: "Enter the new module on its floor in .dependency-cruiser.mjs.",
      from: { path: "^src/", pathNot: all },
      to: {}
    },
    {
      name: "every-imported-module-has-a-floor",
      severity: "error",
      comment: "Enter the new module on its floor in .dependency-cruiser.mjs.",
      from: {},
      to: { path: "^src/", pathNot: all }
    },
    {
      name: "no-orphans",
      severity: "error",
      comment: "Nothing imports this module and it imports nothing: delete it, or export it.",
      from: { orphan: true, path: "^src/", pathNot: ["^src/(index|promise|browser)\\.ts$", "\\.d\\.ts$"] },
      to: {}
    },
    {
      name: "no-cycles",
      severity: "error",
      comment: "Cycles hide which module owns what; a type-only import counts too.",
      from: { path: "^src/" },
      to: { circular: true }
    },
    {
      name: "node-only-where-node-is-known",
      severity: "error",
      comment: "This floor runs in a browser too: name a service here and give its layer in a surface.",
      from: { path: "^src/", pathNot: knowsNode },
      to: { dependencyTypes: ["core"] }
    },
    {
      name: "node-packages-only-where-node-is-known",
      severity: "error",
      comment: "This floor runs in a browser too: name a service here and give its layer in a surface.",
      from: { path: "^src/", pathNot: knowsNode },
      to: { path: [packages("undici"), packages("@effect/[a-z-]*-node(-shared)?")] }
    },
    {
      name: "llama-only-in-the-embedded-backend",
      severity: "error",
      comment: "node-llama-cpp is optional: only the embedded backend loads it, and only when it is used.",
      from: { path: "^src/", pathNot: embedded },
      to: { path: packages("node-llama-cpp") }
    },
    {
      name: "the-command-line-is-a-leaf",
      severity: "error",
      comment: "The library is built without src/cli and without @effect/cli: only the bundled command uses them.",
      from: { path: "^src/", pathNot: "^src/cli/" },
      to: { path: ["^src/cli/", packages("@effect/cli")] }
    },
    {
      name: "the-page-stands-alone",
      severity: "error",
      comment: "The page is built apart: it knows the gateway by its endpoints, and nobody imports it.",
      from: { path: "^src/", pathNot: page },
      to: { path: page }
    },
    {
      name: "the-page-imports-nothing-of-the-library",
      severity: "error",
      comment: "The page is built apart: it knows the gateway by its endpoints, and the types of what they tell.",
      from: { path: page },
      to: { path: "^src/", pathNot: [...page, "^src/gateway/events/views\\.ts$"] }
    },
    {
      name: "src-imports-only-what-it-declares",
      severity: "error",
      comment:
        "Declare it in package.json as a dependency or a peer: what only tests and the bundled command need is not there.",
      from: { path: "^src/", pathNot: ["^src/cli/", ...page] },
      to: {
        dependencyTypes: ["npm-dev", "npm-no-pkg", "npm-unknown"],
        dependencyTypesNot: ["npm-peer", "npm", "npm-optional", "type-only"]
      }
    },
    {
      name: "resolvable",
      severity: "error",
      comment: "Nothing stands at the other end of this import.",
      from: { path: "^src/" },
      to: { couldNotResolve: true }
    }
  ],
  options: {
    doNotFollow: { path: "node_modules" },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: "tsconfig.json" },
    enhancedResolveOptions: {
      exportsFields: ["exports"],
      conditionNames: ["import", "node", "default", "types"],
      extensions: [".ts", ".tsx", ".js", ".mjs", ".json"]
    }
  }
}
