package configs

// Warnings says what works as it stands and is hardly meant so. It is asked of a
// Config without problems: by check, and by serve for its log.
func (c *Config) Warnings() (warnings []Problem) {
	if a := c.Admin.Address; a != "" && !a.Local() {
		warnings = append(warnings, c.at("admin.address",
			"`admin.address`: there is no password, and whoever reaches %s reads the metrics and can have the files read anew; use loopback or a unix socket, or see that a firewall keeps others away", a))
	}
	return warnings
}
