/**
 * What is shipped in one piece, with all that it needs: the command line, and the entries that programs without Effect
 * import.
 */
import { renameSync, rmSync } from "node:fs"
import { readFile } from "node:fs/promises"
import { createRequire } from "node:module"
import { dirname, join, relative } from "node:path"
import { fileURLToPath, pathToFileURL } from "node:url"

export const root = fileURLToPath(new URL("..", import.meta.url))
export const src = join(root, "src")
export const dist = join(root, "dist")

/**
 * Modules find their files with `new URL("../registry/…", import.meta.url)`. A bundle moves them all to dist/bin/ or
 * dist/bundle/, so each is given the URL that it would have without: dist/a/B.js for src/a/B.ts.
 *
 * @type {import("esbuild").Plugin}
 */
const moduleUrls = {
  name: "module-urls",
  setup(build) {
    build.onLoad({ filter: /\.ts$/ }, async ({ path }) => {
      const module = relative(src, path).replaceAll("\\", "/").replace(/\.ts$/, ".js")
      if (module.startsWith("../")) return undefined
      const url = `new URL(${JSON.stringify(`../${module}`)}, import.meta.url).href`
      return { loader: "ts", contents: (await readFile(path, "utf8")).replaceAll("import.meta.url", () => url) }
    })
  }
}

/** The parts of undici that `transport/` uses: its index loads all of it, twice as much. */
const partsOfUndici = `
export { default as buildConnector } from "undici/lib/core/connect.js"
export { default as Agent } from "undici/lib/dispatcher/agent.js"
export { default as Client } from "undici/lib/dispatcher/client.js"
export { default as Pool } from "undici/lib/dispatcher/pool.js"
export { default as ProxyAgent } from "undici/lib/dispatcher/proxy-agent.js"
`

/** @type {import("esbuild").Plugin} */
const smallUndici = {
  name: "small-undici",
  setup(build) {
    build.onResolve({ filter: /^undici$/ }, ({ importer }) =>
      importer.startsWith(join(src, "transport")) ? { path: "undici", namespace: "small-undici" } : undefined
    )
    build.onLoad({ filter: /.*/, namespace: "small-undici" }, () => ({ contents: partsOfUndici, resolveDir: root }))
  }
}

/**
 * The platform's module also loads a server with WebSockets and all of undici, which takes as long as starting Node; the
 * gateway takes two functions of it.
 *
 * @type {import("esbuild").Plugin}
 */
const smallServerRequest = {
  name: "small-server-request",
  setup(build) {
    build.onResolve({ filter: /^@effect\/platform-node\/NodeHttpServerRequest$/ }, ({ path }) => ({
      path,
      namespace: "small-server-request"
    }))
    build.onLoad({ filter: /.*/, namespace: "small-server-request" }, () => ({
      contents: `
export const toIncomingMessage = ({ source }) => source
export const toServerResponse = ({ response }) => (typeof response === "function" ? response() : response)
`
    }))
  }
}

/**
 * The driver of SQLite has binaries and is installed beside the bundle. The client of libSQL is never made: a store hands
 * its own to `@effect/sql-libsql`.
 *
 * @type {import("esbuild").Plugin}
 */
const withoutLibsqlClient = {
  name: "without-libsql-client",
  setup(build) {
    build.onResolve({ filter: /^@libsql\/client$/ }, () => ({ path: "@libsql/client", namespace: "without-libsql" }))
    build.onLoad({ filter: /.*/, namespace: "without-libsql" }, () => ({
      contents: 'export const createClient = () => { throw new Error("the client of libSQL is not bundled") }'
    }))
  }
}

/**
 * The package that measures texts makes a segmenter and the pattern of all emoji when it is loaded: 10 ms, for texts that
 * are not plain ASCII. They are made when one comes.
 *
 * @type {import("esbuild").Plugin}
 */
const lazyStringWidth = {
  name: "lazy-string-width",
  setup(build) {
    build.onLoad({ filter: /[\\/]node_modules[\\/]string-width[\\/]index\.js$/ }, async ({ path }) => {
      let contents = await readFile(path, "utf8")
      for (const [name, method] of [
        ["segmenter", "segment"],
        ["rgiEmojiRegex", "test"]
      ]) {
        const declaration = new RegExp(`^const ${name} = (.+);$`, "m")
        if (!declaration.test(contents)) throw new Error(`${path} has no ${name}: see lazyStringWidth`)
        contents = contents.replace(
          declaration,
          (_, value) =>
            `let made_${name};\nconst ${name} = { ${method}: (text) => (made_${name} ??= ${value}).${method}(text) };`
        )
      }
      return { contents }
    })
  }
}

/**
 * The help of all commands is declared where they are, which takes longer to load than Node itself. So the bundle has the
 * pages as data.
 *
 * @type {import("esbuild").Plugin}
 */
const ownHelp = {
  name: "own-help",
  setup(build) {
    build.onLoad({ filter: /[\\/]src[\\/]cli[\\/]helpPages\.ts$/ }, async ({ path }) => {
      const esbuild = await import("esbuild")
      const outfile = join(dist, `.help-${process.pid}.mjs`)
      try {
        await esbuild.build({ ...onNode, splitting: false, entryPoints: [path], outfile, metafile: false })
        const { pages } = await import(pathToFileURL(outfile).href)
        return { contents: `export const pages = ${JSON.stringify(pages)}`, loader: "js" }
      } finally {
        rmSync(outfile, { force: true })
      }
    })
  }
}

/** Of every bundle. @type {import("esbuild").BuildOptions} */
const common = {
  absWorkingDir: root,
  bundle: true,
  splitting: true,
  format: "esm",
  // Less to read at every start; names stay, so that a stack trace can be read too.
  minifyWhitespace: true,
  minifySyntax: true,
  legalComments: "none",
  logLevel: "warning",
  metafile: true,
  // Its main module is UMD, whose parts a bundler does not find.
  alias: { "jsonc-parser": "jsonc-parser/lib/esm/main.js" },
  plugins: [moduleUrls, smallUndici, smallServerRequest, withoutLibsqlClient, lazyStringWidth]
}

/** @type {import("esbuild").BuildOptions} */
const onNode = {
  ...common,
  platform: "node",
  target: "node20",
  // What converts the schemas of a library is installed beside that library, or not at all.
  external: ["node-llama-cpp", "@parcel/watcher", "zod", "@valibot/to-json-schema", "libsql", "pg-native"],
  banner: {
    js: 'import { createRequire as createRequire_ } from "node:module"; const require = createRequire_(import.meta.url);'
  }
}

/**
 * Bundles into a folder of dist/, one chunk for each lazily imported part. Who starts or imports it meanwhile finds the
 * old bundle or the new one, never half of one. Gives what went into it.
 *
 * @type {(name: string, make: (outdir: string) => Promise<ReadonlyArray<import("esbuild").Metafile | undefined>>) => Promise<import("esbuild").Metafile>}
 */
const replaceFolder = async (name, make) => {
  const outdir = join(dist, `.${name}-${process.pid}`)
  const old = join(dist, `.old-${name}-${process.pid}`)
  try {
    const made = await make(outdir)
    try {
      renameSync(join(dist, name), old)
    } catch {
      // There was none.
    }
    renameSync(outdir, join(dist, name))
    rmSync(old, { recursive: true, force: true })
    return {
      inputs: Object.assign({}, ...made.map((metafile) => metafile?.inputs)),
      outputs: Object.assign({}, ...made.map((metafile) => metafile?.outputs))
    }
  } finally {
    rmSync(outdir, { recursive: true, force: true })
  }
}

/** Where the library of the engine is installed. */
const library = dirname(createRequire(import.meta.url).resolve("node-llama-cpp"))

/**
 * The modules of the library find its files and its binaries where it is installed, which the URL of the bundle names as
 * `at`.
 *
 * @type {import("esbuild").Plugin}
 */
const installedLibrary = {
  name: "installed-library",
  setup(build) {
    // Only who compiles it needs a client of git.
    build.onResolve({ filter: /^simple-git$/ }, ({ path }) => ({ path, namespace: "installed" }))
    build.onLoad({ filter: /.*/, namespace: "installed" }, ({ path }) => ({
      contents: `export const simpleGit = (...given) => createRequire_(at_)(${JSON.stringify(path)}).simpleGit(...given)
`,
      loader: "js"
    }))
    build.onLoad({ filter: /\.js$/ }, async ({ path }) => {
      const module = relative(library, path).replaceAll("\\", "/")
      if (module.startsWith("../")) return undefined
      const contents = (await readFile(path, "utf8"))
        .replaceAll("import.meta.url", () => `new URL(${JSON.stringify(module)}, at_).href`)
        .replaceAll(/\bimport\(("@node-llama-cpp\/[^"]+")\)/g, "import_($1)")
      return { loader: "js", contents }
    })
  }
}

/**
 * What an engine uses of its library, in one file: it has hundreds of modules, which take longer to load than the model of
 * a demo. The name has the version that it is of.
 */
const bundleLibrary = async (/** @type {string} */ outdir) => {
  const esbuild = await import("esbuild")
  const { version } = JSON.parse(await readFile(join(library, "../package.json"), "utf8"))
  const { metafile } = await esbuild.build({
    ...onNode,
    splitting: false,
    stdin: {
      contents: `
export { getLlama } from "./bindings/getLlama.js"
export { LlamaLogLevel } from "./bindings/types.js"
export { LlamaGrammarEvaluationState } from "./evaluator/LlamaGrammarEvaluationState.js"
export { TokenBias } from "./evaluator/TokenBias.js"
`,
      resolveDir: library
    },
    outfile: join(outdir, `node-llama-cpp-${version}.js`),
    external: ["electron"],
    banner: {
      js: `import { createRequire as createRequire_ } from "node:module"
import { pathToFileURL as pathToFileURL_ } from "node:url"
const at_ = new URL(import.meta.url).searchParams.get("at")
const require = createRequire_(at_)
const import_ = (name) => import(pathToFileURL_(require.resolve(name)).href)`
    },
    plugins: [installedLibrary]
  })
  return metafile
}

/** dist/bin/: the command line. */
export const bundleCommand = async () => {
  const esbuild = await import("esbuild")
  return replaceFolder("bin", async (outdir) => {
    const { metafile } = await esbuild.build({
      ...onNode,
      entryPoints: { main: "src/cli/bin.ts" },
      outdir,
      plugins: [ownHelp, ...(common.plugins ?? [])],
      chunkNames: "[name]-[hash]"
    })
    return [metafile, await bundleLibrary(outdir)]
  })
}

/**
 * A converter for Zod before 4.2, half a megabyte: a page that has one says so, and wants a newer Zod.
 *
 * @type {import("esbuild").Plugin}
 */
const withoutZod = {
  name: "without-zod",
  setup(build) {
    build.onResolve({ filter: /^zod\// }, () => ({ path: "zod", namespace: "without-zod" }))
    build.onLoad({ filter: /.*/, namespace: "without-zod" }, () => ({
      contents: 'throw new Error("Zod is not bundled")'
    }))
  }
}

/** dist/bundle/: the entries for Promises and for browsers, and their types. Needs the types that tsc made. */
export const bundleEntries = async () => {
  const esbuild = await import("esbuild")
  const { writeDeclarations } = await import("./declarations.mjs")
  return replaceFolder("bundle", async (outdir) => {
    const promise = await esbuild.build({
      ...onNode,
      entryPoints: { promise: "src/promise.ts" },
      outdir,
      chunkNames: "promise-[name]-[hash]"
    })
    const browser = await esbuild.build({
      ...common,
      platform: "browser",
      target: "es2022",
      entryPoints: { browser: "src/browser.ts" },
      outdir,
      chunkNames: "browser-[name]-[hash]",
      plugins: [moduleUrls, withoutZod]
    })
    for (const entry of ["promise", "browser"]) {
      await writeDeclarations(join(dist, `${entry}.d.ts`), join(outdir, `${entry}.d.ts`))
    }
    return [promise.metafile, browser.metafile]
  })
}
