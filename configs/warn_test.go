package configs

import "testing"

// The admin's door has no password.
func TestAdminForEverybody(t *testing.T) {
	for address, want := range map[string]bool{
		"": false, "unix:/run/moongate/admin.sock": false, "127.0.0.1:9125": false, "127.8.0.1:9125": false, "[::1]:9125": false, "localhost:9125": false,
		"0.0.0.0:9125": true, "[::]:9125": true, ":9125": true, "192.0.2.1:9125": true, "10.0.0.1:9125": true, "admin.example.org:9125": true,
	} {
		c := Default()
		c.Admin.Address = Address(address)
		if got := len(c.Warnings()) > 0; got != want {
			t.Errorf("%q: warned %v, want %v", address, got, want)
		}
	}
}
