/** llama.cpp in a container, through an installed `podman` or `docker`. */
import * as Effect from "effect/Effect"
import { type Engine, needsFile } from "./engine.js"
import { argumentsOf } from "./llamaServer.js"

/** The image where none is named. */
const defaultImage = "quay.io/ramalama/ramalama"

/** Where the server listens inside. */
const innerPort = 8080

/** Names of containers may hold fewer characters than names of models. */
const containerName = (model: string, port: number): string =>
  `aicortex-${model.replace(/[^A-Za-z0-9_.-]+/g, "-").slice(0, 60)}-${port}`

export const engine: Engine = {
  name: "container",
  about: "llama.cpp in a container, through podman or docker.",
  protocol: "openai",
  available: Effect.fnUntraced(function* (system) {
    const program = (yield* system.find("podman")) ?? (yield* system.find("docker"))
    return program === undefined
      ? {
          program,
          reason: "there is neither podman nor docker on PATH",
          install: "Install one of them: podman.io or docs.docker.com."
        }
      : { program }
  }),
  refusal: (source) =>
    needsFile(source) ??
    (/[,"]/.test(source.path ?? "")
      ? { field: "model", reason: "a file whose path has a comma or a quote cannot be given to a container" }
      : undefined),
  command: (program, { name, path = "" }, options, port) => {
    const container = containerName(name, port)
    const slash = Math.max(path.lastIndexOf("/"), path.lastIndexOf("\\"))
    // The other parts of a split model lie beside it.
    const folder = path.slice(0, slash)
    const inside = `/models/${path.slice(slash + 1)}`
    return {
      file: program,
      args: [
        ...["run", "--rm", "--name", container, "--label", "aicortex=engine"],
        // The folder keeps its labels where SELinux is on.
        ...["--security-opt", "label=disable"],
        ...["--publish", `127.0.0.1:${port}:${innerPort}`],
        ...["--mount", `type=bind,source=${folder},target=/models,readonly`],
        options.baseImage ?? defaultImage,
        "llama-server",
        ...argumentsOf(inside, name, "0.0.0.0", innerPort, options)
      ],
      env: {},
      guardsItself: false,
      cleanup: { file: program, args: ["rm", "--force", container] }
    }
  },
  health: { ready: "/health", models: "/v1/models" }
}
