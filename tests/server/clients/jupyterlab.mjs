// Types in JupyterLab under a headless Chromium; prints what ghost text came and what was accepted.
// node jupyterlab.mjs PLAYWRIGHT CHROMIUM URL SCREENSHOT TYPED

const [, , playwright, executablePath, url, screenshot, typed] = process.argv;
const { chromium } = await import(playwright);
const browser = await chromium.launch({
  executablePath,
  args: [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-timer-throttling",
    "--disable-renderer-backgrounding",
  ],
});
const page = await browser.newPage({ viewport: { width: 1000, height: 600 } });
const errors = [];
page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
try {
  await page.goto(url, { timeout: 120000 });
  const editor = page.locator(".jp-FileEditor .cm-content");
  await editor.waitFor({ timeout: 120000 });
  await editor.click();
  await page.keyboard.press("Control+End");
  const text = async () => (await editor.locator(".cm-line").allInnerTexts()).join("\n");
  await page.keyboard.type(typed, { delay: 80 });
  const ghost = page.locator(".jp-GhostText").first();
  await ghost.waitFor({ state: "attached", timeout: 60000 });
  const shown = await ghost.innerText();
  await page.screenshot({ path: screenshot });
  await page.keyboard.press("Tab");
  await page.waitForTimeout(500);
  console.log(JSON.stringify({ shown, after: await text(), errors }));
} catch (error) {
  await page.screenshot({ path: screenshot });
  console.log(JSON.stringify({ error: String(error), errors }));
} finally {
  await browser.close();
}
