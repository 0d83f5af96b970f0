import { EngineUnavailable } from "../Errors.js"

/** @internal */
export const installCommand = "npm install node-llama-cpp"

/**
 * The failure of an engine that lacks something which `command` installs.
 *
 * @internal
 */
export const engineFailure = (missing: string, command = installCommand) => ({
  reason: "engine" as const,
  message: `${missing}; install it with \`${command}\``,
  install: { missing, command }
})

/**
 * The typed error of an attempt that failed with the reason `engine`.
 *
 * @internal
 */
export const engineUnavailable = (failure: {
  readonly message: string
  readonly install?: { readonly missing: string; readonly command: string }
}): EngineUnavailable =>
  new EngineUnavailable({
    reason: failure.install?.missing ?? failure.message,
    install: failure.install?.command ?? installCommand
  })
