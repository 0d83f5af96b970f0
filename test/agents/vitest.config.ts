import { mergeConfig } from "vitest/config"
import base from "../../vitest.config.js"

const { include: _, projects: _projects, ...test } = base.test ?? {}

export default mergeConfig(
  { ...base, test },
  { test: { include: ["test/agents/*.agent.ts"], maxWorkers: 1, testTimeout: 120_000, hookTimeout: 120_000 } }
)
