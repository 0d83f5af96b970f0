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
