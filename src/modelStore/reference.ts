/** What the name of a model means: a repository of a hub, an address, a file of this machine, a model of Ollama. */
import * as Either from "effect/Either"
import { InvalidModelReference } from "../Errors.js"
import { percentDecode } from "../internal/percentDecode.js"
import { redactUserInfo } from "../Server.js"
import { isModelName, stemOf } from "./names.js"

/** What all references have. */
interface Common {
  /** The name under which the model is stored, where no other is given. */
  readonly name: string
}

/**
 * A repository of the hub. Without `file`, the files are those of a quantisation: `quantisation`, else the best that fits.
 *
 * @since 0.3.0
 * @category models
 */
export interface HubReference extends Common {
  /** Which kind of reference this is. */
  readonly kind: "hub"
  /** Whose repository it is. */
  readonly owner: string
  /** The repository. */
  readonly repo: string
  /** A branch, a tag or a commit; default `main`. */
  readonly revision: string
  /** The quantisation, such as `Q4_K_M`, in capital letters. */
  readonly quantisation?: string
  /** A file of the repository, with its folders. */
  readonly file?: string
}

/**
 * A model of Cortex's library on the hub: each variant is a branch of the repository. Without `branch`, it is the one that
 * the repository calls its default.
 *
 * @since 0.3.0
 * @category models
 */
export interface CortexReference extends Common {
  /** Which kind of reference this is. */
  readonly kind: "cortex"
  /** The repository of Cortex's library. */
  readonly repo: string
  /** The variant, such as `8b-gguf-q4-km`. */
  readonly branch?: string
}

/**
 * A file of a web server.
 *
 * @since 0.3.0
 * @category models
 */
export interface UrlReference extends Common {
  /** Which kind of reference this is. */
  readonly kind: "url"
  /** The address, absolute. */
  readonly url: string
}

/**
 * A file of this machine.
 *
 * @since 0.3.0
 * @category models
 */
export interface FileReference extends Common {
  /** Which kind of reference this is. */
  readonly kind: "file"
  /** The path as it was given; a `~/` at its beginning is the home directory. */
  readonly path: string
}

/**
 * A model of Ollama's library, or a name that only servers know.
 *
 * @since 0.3.0
 * @category models
 */
export interface OllamaReference extends Common {
  /** Which kind of reference this is. */
  readonly kind: "ollama"
}

/**
 * What the name of a model means.
 *
 * @since 0.3.0
 * @category models
 */
export type ModelReference = HubReference | CortexReference | UrlReference | FileReference | OllamaReference

type Parsed = Either.Either<ModelReference, InvalidModelReference>

/** The owner of Cortex's library. */
export const cortexOwner = "cortexso"

const segment = /^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_-])?$/
const quantisation = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$/
const revision = /^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$/

const isSegment = (text: string): boolean => segment.test(text) && !text.includes("..") && !text.includes("--")

/** A file of a repository, with its folders: none of them leaves it. */
const isRepositoryFile = (file: string): boolean =>
  file.length <= 160 &&
  file.split("/").every((part) => part !== "" && part !== "." && part !== ".." && !hasControl(part)) &&
  !file.includes("\\")

const hasControl = (text: string): boolean =>
  Array.from(text).some((one) => one.charCodeAt(0) < 32 || one.charCodeAt(0) === 127)

const isGguf = (text: string): boolean => /\.gguf$/i.test(text)

const forms =
  "name owner/repo, owner/repo:Q4_K_M, hf:owner/repo, an address (https://…), a file (./model.gguf), or a model such as llama3.2:3b"

/** The name of a model in a repository of the hub. */
export const hubName = (owner: string, repo: string, quant?: string): string =>
  quant === undefined ? `${owner}/${repo}` : `${owner}/${repo}:${quant}`

/** The name of a model that is one file, or its parts, of a repository. */
const fileName = (owner: string, repo: string, file: string): string => {
  const parts = file.split("/")
  const folders = parts.slice(0, -1).map(stemOf)
  return [owner, repo, ...folders, `${stemOf(parts.at(-1) ?? "")}.gguf`].join("/")
}

const hub = (text: string, fail: (reason: string) => Parsed): Parsed => {
  const [owner = "", second = "", ...rest] = text.split("/")
  if (rest.length > 0) {
    const file = rest.join("/")
    if (!isSegment(owner) || !isSegment(second)) return fail(`'${owner}/${second}' is not a repository`)
    if (!isRepositoryFile(file) || !isGguf(file))
      return fail("a file of a repository must be a .gguf: owner/repo/FILE.gguf")
    if (owner.toLowerCase() === cortexOwner) return fail(`name the variant instead: ${second}:8b-gguf-q4-km`)
    return Either.right({
      kind: "hub",
      name: fileName(owner, second, file),
      owner,
      repo: second,
      revision: "main",
      file
    })
  }
  const colon = second.indexOf(":")
  const repo = colon === -1 ? second : second.slice(0, colon)
  const tag = colon === -1 ? undefined : second.slice(colon + 1)
  if (!isSegment(owner) || !isSegment(repo)) return fail(`'${owner}/${repo}' is not a repository: ${forms}`)
  if (owner.toLowerCase() === cortexOwner) return cortex(repo, tag, fail)
  if (tag === undefined || tag === "latest")
    return Either.right({ kind: "hub", name: hubName(owner, repo), owner, repo, revision: "main" })
  if (isGguf(tag) && isRepositoryFile(tag)) {
    return Either.right({ kind: "hub", name: fileName(owner, repo, tag), owner, repo, revision: "main", file: tag })
  }
  if (!quantisation.test(tag)) return fail(`'${tag}' is not a quantisation such as Q4_K_M`)
  const quant = tag.toUpperCase()
  return Either.right({
    kind: "hub",
    name: hubName(owner, repo, quant),
    owner,
    repo,
    revision: "main",
    quantisation: quant
  })
}

const cortex = (repo: string, branch: string | undefined, fail: (reason: string) => Parsed): Parsed => {
  if (!isSegment(repo)) return fail(`'${repo}' is not a model of Cortex's library`)
  if (branch === undefined) return Either.right({ kind: "cortex", name: repo, repo })
  if (!quantisation.test(branch)) return fail(`'${branch}' is not a variant such as 8b-gguf-q4-km`)
  return Either.right({ kind: "cortex", name: `${repo}:${branch}`, repo, branch })
}

const hubHosts: ReadonlySet<string> = new Set(["huggingface.co", "www.huggingface.co", "hf.co"])

/** What stands in the address line of a browser that shows a repository or a file of it. */
const hubPage = (url: URL, fail: (reason: string) => Parsed): Parsed => {
  const parts = url.pathname.split("/").filter((part) => part !== "")
  const [owner = "", repo = "", action, rev, ...file] = parts.map(percentDecode)
  if (action === undefined || (action === "tree" && (rev === undefined || rev === "main") && file.length === 0)) {
    return hub(`${owner}/${repo}`, fail)
  }
  if (!["resolve", "blob", "raw"].includes(action) || rev === undefined || file.length === 0) {
    return fail("it is not the address of a file of a repository")
  }
  const parsed = hub([owner, repo, ...file].join("/"), fail)
  if (!revision.test(rev)) return fail(`'${rev}' is not a revision`)
  return Either.map(parsed, (one) => (one.kind === "hub" ? { ...one, revision: rev } : one))
}

const address = (text: string, fail: (reason: string) => Parsed): Parsed => {
  if (!URL.canParse(text)) return fail("it is not an address")
  const url = new URL(text)
  if (url.username !== "" || url.password !== "") {
    return fail("an address must hold no password: give a token with HF_TOKEN, or download the file yourself")
  }
  if (url.hostname === "") return fail("it names no host")
  if (hubHosts.has(url.hostname)) return hubPage(url, fail)
  const file = percentDecode(url.pathname.split("/").at(-1) ?? "")
  if (!isGguf(file)) return fail("the address of a model must end in .gguf")
  url.hash = ""
  return Either.right({ kind: "url", name: stemOf(file), url: url.href })
}

const file = (path: string, fail: (reason: string) => Parsed): Parsed => {
  if (path === "" || hasControl(path)) return fail("it is not a path")
  const last = path.split(/[\\/]/).at(-1) ?? ""
  return Either.right({ kind: "file", name: stemOf(last), path })
}

/** A path of a file address. Those of other machines cannot be read. */
const fileAddress = (rest: string, fail: (reason: string) => Parsed): Parsed => {
  if (!rest.startsWith("//")) return file(percentDecode(rest), fail)
  const slash = rest.indexOf("/", 2)
  const host = slash === -1 ? rest.slice(2) : rest.slice(2, slash)
  if (host !== "" && host.toLowerCase() !== "localhost") return fail("a file must be one of this machine: file:///path")
  const path = percentDecode(slash === -1 ? "" : rest.slice(slash))
  return file(/^\/[A-Za-z]:[\\/]/.test(path) ? path.slice(1) : path, fail)
}

const ollama = (text: string, fail: (reason: string) => Parsed): Parsed =>
  isModelName(text) ? Either.right({ kind: "ollama", name: text }) : fail(forms)

/** Whether a tag is one of a variant of Cortex's library, such as `8b-gguf-q4-km`: others have none with this word. */
const isCortexTag = (tag: string): boolean => /(^|-)gguf(-|$)/i.test(tag)

/** Whether a name is a path, whatever lies there. */
const isPath = (text: string): boolean =>
  /^(\.{0,2}[\\/]|~[\\/]|[A-Za-z]:[\\/])/.test(text) ||
  text.includes("\\") ||
  (isGguf(text) && !text.includes(":") && text.split("/").length <= 2)

/** Whether a name may be that of a file of a repository, or of one that lies there. */
export const isAmbiguous = (text: string): boolean =>
  isGguf(text) && /^[^/:]+(\/[^/]+){2,}$/.test(text) && !isPath(text)

const schemes: { readonly [scheme: string]: (rest: string, fail: (reason: string) => Parsed) => Parsed } = {
  hf: hub,
  huggingface: hub,
  cortex: (rest, fail) => {
    const [repo = "", branch] = rest.split(/:(.*)/s)
    return cortex(repo, branch, fail)
  },
  ollama
}

/**
 * What a name means, by its form alone:
 *
 * 1. a scheme: `hf:`, `huggingface:`, `ollama:`, `cortex:` (each with `//` too), `file:`, `https:`, `http:`; `hf.co/…`
 * 2. a path: what begins with `/`, `./`, `../`, `~/` or a drive, or ends in `.gguf` with at most one `/`
 * 3. `owner/repo/FILE.gguf`, `owner/repo:QUANT`, `owner/repo`: a repository of the hub
 * 4. `name:tag` with the word `gguf` in its tag: a variant of Cortex's library
 * 5. any other name: a model of Ollama's library
 */
export const parseReference = (given: string): Parsed =>
  Either.flatMap(parse(given), (reference) =>
    isModelName(reference.name)
      ? Either.right(reference)
      : invalid(given, "its name is too long, or holds other characters")
  )

const invalid = (given: string, reason: string): Parsed =>
  Either.left(new InvalidModelReference({ reference: redactUserInfo(given.trim().slice(0, 200)), reason }))

const parse = (given: string): Parsed => {
  const text = given.trim()
  const fail = (reason: string): Parsed => invalid(text, reason)
  if (text === "") return fail("it is empty")
  if (text.length > 2048) return fail("it is too long")
  if (hasControl(text)) return fail("it holds a control character")
  const scheme = /^([A-Za-z][A-Za-z0-9+.-]+):(.*)$/s.exec(text)
  if (scheme !== null) {
    const [, name = "", rest = ""] = scheme
    const lower = name.toLowerCase()
    if (lower === "http" || lower === "https") return address(text, fail)
    if (lower === "file") return fileAddress(rest, fail)
    const known = Object.hasOwn(schemes, lower) ? schemes[lower] : undefined
    if (known !== undefined && rest !== "") return known(rest.replace(/^\/\//, ""), fail)
    if (rest.startsWith("//"))
      return fail(`the scheme ${name}: is not known; there are hf:, https:, http:, file:, ollama: and cortex:`)
  }
  if (/^(www\.)?(hf\.co|huggingface\.co)\//i.test(text)) {
    const rest = text.slice(text.indexOf("/") + 1)
    return /^[^/]+\/[^/]+\/(resolve|blob|raw|tree)\//.test(rest)
      ? hubPage(new URL(`https://huggingface.co/${rest}`), fail)
      : hub(rest, fail)
  }
  const inLibrary = /^(?:registry\.)?ollama\.(?:ai|com)\/(?:library\/)?(.*)$/i.exec(text)
  if (inLibrary !== null) return ollama(inLibrary[1] ?? "", fail)
  if (isPath(text)) return file(text, fail)
  if (/\s/.test(text)) return fail(forms)
  if (text.includes("/")) return hub(text, fail)
  const colon = text.indexOf(":")
  if (colon !== -1 && isCortexTag(text.slice(colon + 1)))
    return cortex(text.slice(0, colon), text.slice(colon + 1), fail)
  return ollama(text, fail)
}
